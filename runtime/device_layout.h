#pragma once
// How a model's tensors lie in a device's memory, by arithmetic: DeviceWeights takes it by this,
// plans count with it.

#include <cstdint>

#include "base/rounding.h"
#include "runtime/run_plan.h"

namespace hybrid {

enum class DeviceLayout {
  as_on_cpu,  // simulated devices: whatever the CPU's operations read, in the plan's layout
  panels,     // GPUs: matrices in panels, without exponents; norms and biases as floats; of the
              // up-projections of attention what is made of them (attention/mla_decode.h)
};

/// Each array begins at a multiple of this.
inline constexpr uint64_t kDeviceAlignment = 256;
inline uint64_t device_array_bytes(uint64_t n_bytes) { return round_up(n_bytes, kDeviceAlignment); }

/// Of a whole tensor, with what is made of it. `tensor`: of the plan of a run on the CPU.
uint64_t device_bytes(DeviceLayout layout, const PlannedTensor& tensor);

}  // namespace hybrid
