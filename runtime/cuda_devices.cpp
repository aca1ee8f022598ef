#include "runtime/cuda_devices.h"

#include "base/error.h"
#include "runtime/cuda_layer_ops.h"

namespace hybrid {
namespace {

/// Kernels need cp.async and products of bf16.
constexpr int32_t kLeastMajor = 8;

const CudaTables& needed_tables(uint32_t index) {
  std::string reason;
  const CudaTables* tables = cuda_tables(reason);
  if (tables == nullptr) fail("there is no CUDA{}: {}", index, reason);
  return *tables;
}

/// Why kernels do not run there; or "".
std::string refusal(uint32_t index, const CudaDeviceInfo& info) {
  if (info.major >= kLeastMajor) return {};
  return fmt::format(
      "CUDA{} ({}) has compute capability {}.{}, kernels need {}.0 (Ampere) or later", index,
      printable(info.name), info.major, info.minor, kLeastMajor);
}

class CudaModelDevice : public ModelDevice {
 public:
  CudaModelDevice(const CudaTables& tables, uint32_t index, uint64_t budget_bytes)
      : tables_(tables), device_(tables.api, static_cast<int>(index), budget_bytes) {}

  Device& device() override { return device_; }
  DeviceLayout layout() const override { return DeviceLayout::panels; }
  std::unique_ptr<LayerOps> make_ops(DeviceStream& stream, const ModelConfig& config,
                                     const SequencePlan& plan, Trace*) override {
    // What a GPU does when is not known: its events have no times.
    return std::make_unique<CudaLayerOps>(device_, tables_, dynamic_cast<CudaQueue&>(stream),
                                          config, plan);
  }

 private:
  const CudaTables& tables_;
  CudaDevice device_;
};

}  // namespace

std::vector<DeviceName> find_cuda_devices(std::string& reason) {
  const CudaTables* tables = cuda_tables(reason);
  if (tables == nullptr) return {};
  std::vector<DeviceName> found;
  const auto n = static_cast<uint32_t>(count_cuda_devices(tables->api, reason));
  for (uint32_t i = 0; i < n; ++i) {
    try {
      cuda_device_info(i);
      found.push_back({DeviceKind::cuda, i});
    } catch (const Error& error) {
      reason += (reason.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  return found;
}

CudaDeviceInfo cuda_device_info(uint32_t index) {
  const CudaTables& tables = needed_tables(index);
  const CudaDeviceInfo info = CudaDevice(tables.api, static_cast<int>(index), 0).info();
  if (const std::string reason = refusal(index, info); !reason.empty()) throw Error(reason);
  return info;
}

std::unique_ptr<ModelDevice> open_cuda_device(uint32_t index, uint64_t budget_bytes) {
  return std::make_unique<CudaModelDevice>(needed_tables(index), index, budget_bytes);
}

uint64_t cuda_activation_bytes(const ModelConfig& config, const SequencePlan& plan) {
  return plan.row_bytes + CudaLayerOps::n_bytes(config, plan);
}

}  // namespace hybrid
