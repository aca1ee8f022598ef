#include "placement/decode_cost.h"

#include "base/error.h"

namespace hybrid {

DecodeCost::DecodeCost(const PlacementModel& model, const std::vector<PlacementDevice>& devices)
    : model_(model), devices_(devices), pieces_(model.n_layers + 1) {
  for (const PlacementDevice& d : devices) HYBRID_CHECK(d.read_rate > 0);
  for (uint32_t i = 0; i < model.pieces.size(); ++i) {
    const PlacementUnit& unit = model.units[model.pieces[i].unit];
    if (unit.kind != UnitKind::embedding) pieces_[unit.layer].push_back(i);
  }
}

double DecodeCost::hop_seconds(uint32_t from, uint32_t to) const {
  if (from == to) return 0;
  double seconds = 0;  // between two accelerators: by way of the CPU's memory
  for (const uint32_t d : {from, to}) {
    const PlacementDevice& device = devices_[d];
    if (!device.name.is_accelerator()) continue;
    seconds += device.hop_seconds + static_cast<double>(model_.hidden_bytes) / device.link_rate;
  }
  return seconds;
}

double DecodeCost::token_seconds(const Placement& placement) const {
  double seconds = 0;
  uint32_t at = 0;
  for (uint32_t layer = 0; layer <= model_.n_layers; ++layer) {
    const uint32_t home = placement.home[layer];
    seconds += hop_seconds(at, home) + layer_seconds(layer, home, [&](uint32_t piece) {
                 return placement.device_of[piece];
               });
    at = home;
  }
  return seconds + hop_seconds(at, 0);
}

}  // namespace hybrid
