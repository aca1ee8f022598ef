#include "placement/step_cost.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hybrid {

StepCost::StepCost(const PlacementModel& model, const std::vector<PlacementDevice>& devices)
    : model_(model), devices_(devices), pieces_(model.n_layers + 1) {
  for (const PlacementDevice& d : devices) HYBRID_CHECK(d.speed.read_rate > 0);
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
    seconds += device.speed.hop_seconds +
               static_cast<double>(model_.hidden_bytes) * n_tokens / device.speed.link_rate;
  }
  return seconds;
}

double StepCost::step_seconds(const Placement& placement, const StepSize& step) const {
  double seconds = 0;
  uint32_t at = 0;
  for (uint32_t layer = 0; layer <= model_.n_layers; ++layer) {
    const uint32_t home = placement.home[layer];
    seconds += hop_seconds(at, home, step.n_tokens);
    seconds += layer_seconds(
        layer, home, [&](uint32_t piece) { return placement.device_of[piece]; }, step);
    at = home;
  }
  return seconds + hop_seconds(at, 0, 1);  // logits
}

double StepCost::read_bytes(const PlacementPiece& piece, const StepSize& step) const {
  const bool is_output = model_.units[piece.unit].kind == UnitKind::output;
  const double n = is_output ? 1 : step.n_tokens;
  const auto n_bytes = static_cast<double>(piece.panel_bytes);
  const double share = std::min(1.0, static_cast<double>(piece.token_bytes) / n_bytes);
  const double rows = static_cast<double>(step.n_past + step.n_tokens);
  return n_bytes * -std::expm1(n * std::log1p(-share)) +
         static_cast<double>(piece.cache_row_bytes) * rows;
}

double StepCost::piece_seconds(const PlacementPiece& piece, const PlacementDevice& device,
                               const StepSize& step) const {
  if (piece.panel_bytes == 0) return 0;
  const DeviceSpeed& speed = device.speed;
  const bool is_output = model_.units[piece.unit].kind == UnitKind::output;
  if (is_output && !step.with_logits) return 0;
  const double n_bytes = read_bytes(piece, step);
  const double from_disk = piece.on_disk && speed.disk_rate > 0 ? n_bytes / speed.disk_rate : 0;
  if (!speed.rates.empty()) {
    if (const auto seconds = measured_seconds(piece, device, step)) {
      return std::max(*seconds, from_disk);
    }
  }
  const double reading = std::max(n_bytes / speed.read_rate, from_disk) + speed.meet_seconds;
  if (step.n_tokens == 1) return reading;
  double flop = piece.in_attention ? 0 : (is_output ? 1 : step.n_tokens) * piece.token_flop;
  if (piece.cache_row_bytes > 0) flop += model_.attention.flop(step.n_past, step.n_tokens);
  return flop > 0 ? std::max(reading, flop / speed.flop_rate) : reading;
}

std::optional<double> StepCost::measured_seconds(const PlacementPiece& piece,
                                                 const PlacementDevice& device,
                                                 const StepSize& step) const {
  double seconds = 0;
  if (piece.cache_row_bytes > 0) {
    const AttentionWork& work = model_.attention;
    const auto attention =
        device.speed.rates.attention_seconds(work, work.cache_type, step.n_past, step.n_tokens);
    if (!attention) return std::nullopt;
    seconds += *attention;
    const auto element =
        device.speed.rates.element_seconds(RateOp::layer, DType::f32, true, step.n_tokens);
    seconds += element.value_or(0) * static_cast<double>(model_.hidden_bytes / sizeof(float));
  }
  if (piece.in_attention || piece.token_flop == 0) return seconds;
  const UnitKind kind = model_.units[piece.unit].kind;
  const double n = kind == UnitKind::output ? 1 : step.n_tokens;
  // Of routed experts those that some token chose, each with the tokens that chose it.
  const double share =
      static_cast<double>(piece.token_bytes) / static_cast<double>(piece.panel_bytes);
  const double n_elements = piece.token_flop / 2 / share;
  const double active = share < 1 ? -std::expm1(n * std::log1p(-share)) : 1;
  const double tokens_each = n * share / active;
  const auto element =
      device.speed.rates.element_seconds(op_of(kind), piece.type, piece.packed, tokens_each);
  if (!element) return std::nullopt;
  return seconds + n_elements * active * *element;
}

}  // namespace hybrid
