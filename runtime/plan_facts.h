#pragma once
// What both forms of a plan's report say, worked out once.

#include <string>
#include <vector>

#include "placement/lane_model.h"
#include "runtime/placement_plan.h"

namespace hybrid {

/// The steps of a whole micro-batch's K*Q at the end of the context; none with flash.
ScoreSteps last_score_steps(const SequencePlan& plan);
uint64_t n_last_score_steps(const SequencePlan& plan);

/// Behind how many cached positions the crossover of -mla 3 is shown.
std::vector<uint32_t> shown_positions(uint32_t n_ctx);

/// What of the weights lies on the CPU, without what rules leave on DISK.
WeightBytes cpu_weights(const PlacementPlan& plan);

/// Of a device's capacity; mapped pages count, though they need not fit.
uint64_t free_bytes(const PlacementPlan& plan, uint32_t device);

/// Where a tensor, or a part of its experts, lies.
struct TensorPlace {
  std::optional<ExpertRange> experts;
  uint32_t device = 0;
  std::optional<uint32_t> rule;
  bool on_disk = false;  // which the device, the CPU, multiplies with
};
/// "CUDA0", "DISK"
std::string device_text(const PlacementPlan& plan, const TensorPlace& place);
/// Of each tensor of the inventory; none for those that the model does not use.
std::vector<std::vector<TensorPlace>> tensor_places(const PlacementPlan& plan);

/// How the machine's accelerators hold a tensor that has this layout on the CPU: "rows" are the
/// file's blocks in a simulated device's memory.
std::string_view accelerator_layout(const PlacementPlan& plan, TensorLayout layout);
/// "panels" and the like, where a tensor lies.
std::string_view layout_name(const PlacementPlan& plan, uint32_t tensor, uint32_t device);

/// What each processor has to do for a token behind n_past cached ones, and for the micro-batches
/// of a prompt that are computed together. Seconds are infinite where a rate is not known.
LaneTimes token_lanes(const PlacementPlan& plan, uint64_t n_past = 0);
LaneTimes prefill_lanes(const PlacementPlan& plan, uint64_t n_past = 0);

/// Tokens per second, one after the other, behind n_past cached ones; 0 where it does not fit.
double decode_rate(const PlacementPlan& plan, uint64_t n_past = 0);

/// Of these micro-batches; 0 where it does not fit or a rate is not known.
double prefill_rate(const PlacementPlan& plan, uint64_t n_past = 0);

/// Where the rates come from, that of DISK among them where something is on it.
std::string basis_text(const PlacementPlan& plan);

/// What has no measured rates where a device has others: "Q4_K experts", "Q6_K product".
std::vector<std::string> unmeasured_kinds(const PlacementPlan& plan);

}  // namespace hybrid
