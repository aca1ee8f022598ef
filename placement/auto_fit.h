#pragma once
// Fills in what rules leave open, so that a decoded token takes as little time as the budgets
// allow.
//
// Each accelerator becomes the home of a run of layers, in the order of devices; other layers stay
// on the CPU. What rules leave free of a layer's attention, dense net and shared experts goes to
// its home, and so do the routed experts of as many of these layers as have room. Within these
// forms the result is the best one (dynamic programming over layers and accelerators), it follows
// from the arguments alone, and larger budgets never make it slower.

#include <cstdint>
#include <vector>

#include "placement/placement_model.h"

namespace hybrid {

struct FitResult {
  Placement placement;
  std::vector<uint64_t> used_bytes;  // of each device
  double token_seconds = 0;

  /// Devices whose budget is exceeded: what rules put there, or, on the CPU, what found no place.
  std::vector<uint32_t> over_budget;
  bool fits() const { return over_budget.empty(); }
};

/// devices[0] is the CPU; fixed: of as many pieces as the model has.
FitResult fit_placement(const PlacementModel& model, const std::vector<PlacementDevice>& devices,
                        const FixedPieces& fixed);

/// What a device holds of each kind.
struct DeviceLoad {
  uint64_t weight_bytes = 0, cache_bytes = 0, fixed_bytes = 0;

  uint64_t n_bytes() const { return weight_bytes + cache_bytes + fixed_bytes; }
};
std::vector<DeviceLoad> device_loads(const PlacementModel& model,
                                     const std::vector<PlacementDevice>& devices,
                                     const Placement& placement);

}  // namespace hybrid
