#include "runtime/plan_facts.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace hybrid {

ScoreSteps last_score_steps(const SequencePlan& s) {
  const AttentionOptions& o = s.attention.options();
  if (o.flash) return {};
  return score_steps(s.attention.shape().n_heads, s.n_ubatch, s.n_ctx, o.max_scratch_bytes);
}

uint64_t n_last_score_steps(const SequencePlan& s) {
  const ScoreSteps steps = last_score_steps(s);
  return steps.n_tokens == 0 ? 0 : steps.n_steps(s.attention.shape().n_heads, s.n_ubatch);
}

std::vector<uint32_t> shown_positions(uint32_t n_ctx) {
  std::vector<uint32_t> all{0, n_ctx / 4, n_ctx / 2, n_ctx};
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

WeightBytes cpu_weights(const PlacementPlan& plan) {
  WeightBytes n;
  for (uint32_t i = 0; i < plan.input.cpu_weights.size(); ++i) {
    if (plan.devices[plan.fit.placement.device_of[i]].name.is_accelerator()) continue;
    WeightBytes piece = plan.input.cpu_weights[i];
    if (plan.input.model.pieces[i].on_disk) piece.mapped = 0;
    n += piece;
  }
  return n;
}

uint64_t free_bytes(const PlacementPlan& plan, uint32_t device) {
  const uint64_t capacity = plan.machine.devices[device].capacity_bytes;
  uint64_t n = plan.loads[device].n_bytes();
  if (!plan.devices[device].name.is_accelerator()) n += cpu_weights(plan).mapped;
  return capacity - std::min(capacity, n);
}

std::vector<std::vector<TensorPlace>> tensor_places(const PlacementPlan& plan) {
  std::vector<std::vector<TensorPlace>> places(plan.input.inventory.size());
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    const PlacementPiece& piece = plan.input.model.pieces[i];
    places[piece.tensor].push_back(
        {piece.experts, plan.fit.placement.device_of[i], plan.input.rule_of[i], piece.on_disk});
  }
  return places;
}

std::string device_text(const PlacementPlan& plan, const TensorPlace& place) {
  return place.on_disk ? text_of({DeviceKind::disk}) : text_of(plan.devices[place.device].name);
}

std::string_view accelerator_layout(const PlacementPlan& plan, TensorLayout layout) {
  if (plan.machine.layout() == DeviceLayout::as_on_cpu) {
    return layout == TensorLayout::mapped ? "rows" : name_of(layout);
  }
  return name_of(layout == TensorLayout::floats ? layout : TensorLayout::panels);
}

std::string_view layout_name(const PlacementPlan& plan, uint32_t tensor, uint32_t device) {
  const TensorLayout layout = plan.run.tensors[tensor].layout;
  return plan.devices[device].name.is_accelerator() ? accelerator_layout(plan, layout)
                                                    : name_of(layout);
}

LaneTimes token_lanes(const PlacementPlan& plan, uint64_t n_past) {
  return LaneModel(plan.input.model, plan.devices).token(plan.fit.placement, n_past);
}

LaneTimes prefill_lanes(const PlacementPlan& plan, uint64_t n_past) {
  const SequencePlan& s = plan.run.sequence;
  return LaneModel(plan.input.model, plan.devices)
      .prompt(plan.fit.placement, n_past, uint64_t{s.n_in_pass} * s.n_ubatch, s.prompt_cut());
}

double decode_rate(const PlacementPlan& plan, uint64_t n_past) {
  return plan.fits() ? 1 / token_lanes(plan, n_past).seconds : 0;
}

double prefill_rate(const PlacementPlan& plan, uint64_t n_past) {
  const uint32_t n = plan.run.sequence.n_ubatch * plan.run.sequence.n_in_pass;
  return plan.fits() ? n / prefill_lanes(plan, n_past).seconds : 0;
}

std::string basis_text(const PlacementPlan& plan) {
  std::string text = plan.machine.basis;
  if (plan.machine.layout() == DeviceLayout::as_on_cpu) {
    const DeviceSpeed& speed = plan.devices[1].speed;
    text += fmt::format(
        "; simulated devices stand for GPUs with {:.0f} GB/s, {:.0f} TFLOP/s and a link of {:.0f} "
        "GB/s each, a run on them takes this CPU's time",
        speed.read_rate * 1e-9, speed.flop_rate * 1e-12, speed.link_rate * 1e-9);
  }
  if (plan.disk_bytes == 0) return text;
  if (plan.disk_fits) return text + "; what is on DISK stays in memory once it was read";
  return text + fmt::format("; DISK {:.1f} GB/s{}", plan.devices.front().speed.disk_rate * 1e-9,
                            plan.machine.is_disk_known ? "" : " (a default)");
}

std::vector<std::string> unmeasured_kinds(const PlacementPlan& plan) {
  std::set<std::string> kinds;
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    const PlacementPiece& piece = plan.input.model.pieces[i];
    const UnitKind kind = plan.input.model.units[piece.unit].kind;
    const RateTable& rates = plan.devices[plan.fit.placement.device_of[i]].speed.rates;
    const bool is_product = piece.token_flop > 0 && !piece.in_attention;
    if (rates.empty() || !is_product || kind == UnitKind::embedding) continue;
    if (rates.has(op_of(kind), piece.type, piece.packed)) continue;
    kinds.insert(fmt::format("{} {}{}", name_of(piece.type), name_of(op_of(kind)),
                             piece.packed ? "" : " from the file's blocks"));
  }
  return {kinds.begin(), kinds.end()};
}

}  // namespace hybrid
