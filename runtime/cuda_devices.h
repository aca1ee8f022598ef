#pragma once
// The GPUs of this machine, as the CUDA plugin finds them.

#include <string>
#include <vector>

#include "placement/device_name.h"
#include "runtime/model_device.h"
#include "tensor/cuda_api.h"

namespace hybrid {

/// All that kernels run on; where there is none, and where some are left out, why is in `reason`.
std::vector<DeviceName> find_cuda_devices(std::string& reason);

/// Throws Error, saying why, where CUDA<index> is not there or kernels do not run on it.
CudaDeviceInfo cuda_device_info(uint32_t index);

/// The same opened for use. `budget_bytes`: of its memory.
std::unique_ptr<ModelDevice> open_cuda_device(uint32_t index, uint64_t budget_bytes);

/// What takes memory of a GPU beside weights and cache: a micro-batch with its operations.
uint64_t cuda_activation_bytes(const ModelConfig& config, const SequencePlan& plan);

}  // namespace hybrid
