#pragma once
// How long steps take where the CPU and devices work at the same time: the order of the engine's
// lanes (runtime/layer.h, docs/scheduling.md), played through with the seconds of StepCost.
//
// Each processor does what it is given one after the other. A device begins nothing before the
// host has queued it; the host waits for what a device has sent it. Copies take their time on the
// device's queue. Micro-batches in flight follow each other half a layer apart.

#include <span>

#include "placement/prompt_cut.h"
#include "placement/step_cost.h"

namespace hybrid {

struct LaneTimes {
  double seconds = 0;                // until all is done
  std::vector<double> busy_seconds;  // [devices]: of their work, without copies
  std::vector<double> link_seconds;  // [devices]: of copies to and from them

  /// Of the shorter of two lanes, the CPU and a device with its copies, how much passed while the
  /// other worked: (both lanes - seconds) / the shorter, at most 1. Other devices have to be idle.
  double hidden_fraction(uint32_t device) const;
};

class LaneModel {
 public:
  /// Both outlive it.
  LaneModel(const PlacementModel& model, const std::vector<PlacementDevice>& devices);

  /// Of micro-batches one after the other, n_in_flight at a time. Seconds are infinite where a rate
  /// is not known.
  LaneTimes pass(const Placement& placement, std::span<const StepSize> batches,
                 uint32_t n_in_flight) const;

  /// A token behind n_past cached ones.
  LaneTimes token(const Placement& placement, uint64_t n_past) const;

  /// Of n_tokens behind n_past, with the logits of the last token.
  LaneTimes prompt(const Placement& placement, uint64_t n_past, uint64_t n_tokens,
                   const PromptCut& cut) const;

 private:
  const PlacementModel& model_;
  const std::vector<PlacementDevice>& devices_;
  StepCost cost_;
};

}  // namespace hybrid
