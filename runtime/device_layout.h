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

/// A stack of matrices of n_bytes each: as much as if each were an array, though they follow each
/// other without gaps. So a range of a stack takes its share, to the byte.
inline uint64_t device_stack_bytes(uint64_t n_matrices, uint64_t n_bytes) {
  return n_matrices * device_array_bytes(n_bytes);
}

/// Of a whole tensor, with what is made of it. `tensor`: of the plan of a run on the CPU.
/// n_experts: it is a stack of so many; 1: of none.
uint64_t device_bytes(DeviceLayout layout, const PlannedTensor& tensor, uint64_t n_experts);

}  // namespace hybrid
