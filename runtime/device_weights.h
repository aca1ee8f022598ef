#pragma once
// The weights of a model that a device computes with, in its memory.

#include <unordered_set>

#include "numa/workers.h"
#include "runtime/device_layout.h"
#include "runtime/load_step.h"
#include "runtime/model_placement.h"
#include "tensor/device.h"

namespace hybrid {

struct DeviceWeightsArgs {
  const MlaShape& mla;
  const ModelPlacement& placement;
  uint32_t processor = 0;  // whose parts of the model
  DeviceLayout layout = DeviceLayout::as_on_cpu;
  const TensorSet& packed;  // what lies in panels, with as_on_cpu
  bool decode = true;       // makes the attention weights of single tokens, see MlaDecodeWeights
  const LoadProgress& progress;
};

class DeviceWeights {
 public:
  /// Copies them from the mapped file on all workers, through pinned memory, and lets `weights`
  /// point to the device. Throws Error where it has not enough memory. The device outlives this.
  DeviceWeights(Device& device, ModelWeights& weights, const DeviceWeightsArgs& args,
                Workers& workers);

  uint64_t n_bytes() const { return memory_.n_bytes(); }

 private:
  DeviceMemory memory_;
};

/// Cuts the experts of layers into the parts of the placement.
void split_experts(ModelWeights& weights, const ModelPlacement& placement);

/// The matrices that lie on another processor than the CPU.
std::unordered_set<const Weight*> weights_on_devices(const ModelWeights& weights,
                                                     const ModelPlacement& placement);

}  // namespace hybrid
