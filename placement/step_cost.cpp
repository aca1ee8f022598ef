#include "placement/step_cost.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hybrid {

StepCost::StepCost(const PlacementModel& model, const std::vector<PlacementDevice>& devices)
    : model_(model), devices_(devices), pieces_(model.n_layers + 1) {
  for (const PlacementDevice& d : devices) HYBRID_CHECK(d.read_rate > 0);
  for (uint32_t i = 0; i < model.pieces.size(); ++i) {
    const PlacementUnit& unit = model.units[model.pieces[i].unit];
    if (unit.kind != UnitKind::embedding) pieces_[unit.layer].push_back(i);
  }
}

double StepCost::hop_seconds(uint32_t from, uint32_t to, uint32_t n_tokens) const {
  if (from == to) return 0;
  double seconds = 0;  // between two accelerators: by way of the CPU's memory
  for (const uint32_t d : {from, to}) {
    const PlacementDevice& device = devices_[d];
    if (!device.name.is_accelerator()) continue;
    seconds +=
        device.hop_seconds + static_cast<double>(model_.hidden_bytes) * n_tokens / device.link_rate;
  }
  return seconds;
}

template <class PieceSeconds>
double StepCost::all_seconds(const Placement& placement, const PieceSeconds& piece_seconds,
                             uint32_t n_tokens) const {
  double seconds = 0;
  uint32_t at = 0;
  for (uint32_t layer = 0; layer <= model_.n_layers; ++layer) {
    const uint32_t home = placement.home[layer];
    seconds += hop_seconds(at, home, n_tokens);
    seconds += layer_seconds(
        layer, home, [&](uint32_t piece) { return placement.device_of[piece]; }, piece_seconds,
        n_tokens);
    at = home;
  }
  return seconds + hop_seconds(at, 0, 1);  // logits
}

double StepCost::token_seconds(const Placement& placement) const {
  return all_seconds(
      placement,
      [this](const PlacementPiece& p, const PlacementDevice& d) { return decode_seconds(p, d); },
      1);
}

double StepCost::batch_seconds(const Placement& placement, uint32_t n_tokens) const {
  const auto piece_seconds = [&](const PlacementPiece& piece, const PlacementDevice& device) {
    if (piece.accelerator_bytes == 0) return 0.0;
    const bool is_output = model_.units[piece.unit].kind == UnitKind::output;
    const double n = is_output ? 1 : n_tokens;
    const auto n_bytes = static_cast<double>(piece.accelerator_bytes);
    const double share = std::min(1.0, static_cast<double>(piece.token_bytes) / n_bytes);
    const double reading = n_bytes * -std::expm1(n * std::log1p(-share)) / device.read_rate;
    return std::max(reading, n * piece.token_flop / device.flop_rate);
  };
  return all_seconds(placement, piece_seconds, n_tokens);
}

}  // namespace hybrid
