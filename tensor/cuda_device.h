#pragma once
// A GPU, through the table of functions of the CUDA plugin. Which calls it makes is tested with a
// table of the tests' own.

#include <memory>

#include "tensor/cuda_api.h"
#include "tensor/cuda_stream.h"
#include "tensor/device.h"

namespace hybrid {

/// The queue of a CudaDevice: what its make_stream() gives.
class CudaQueue : public DeviceStream {
 public:
  /// Queues kernels: calls launch(stream), which returns a CudaStatus, with the GPU current on this
  /// thread. Not called where the device has failed before; a failure is kept with the call's name
  /// and thrown by waits.
  template <class Launch>
  void launch(const char* name, const Launch& launch) {
    if (begin_launch()) end_launch(name, launch(handle()));
  }

  /// cudaStream_t
  virtual CudaStream handle() const = 0;

 private:
  virtual bool begin_launch() = 0;
  virtual void end_launch(const char* name, CudaStatus status) = 0;
};

class CudaDevice : public Device {
 public:
  /// capacity_bytes: the budget; what the GPU really has is found when memory is taken. Throws
  /// Error where there is no such GPU. `api` outlives the device.
  CudaDevice(const CudaApi& api, int index, uint64_t capacity_bytes);

  std::string name() const override;   // "CUDA0"
  std::string title() const override;  // "CUDA0 (NVIDIA RTX 4090)"
  bool is_simulated() const override { return false; }
  std::unique_ptr<DeviceStream> make_stream() override;
  std::unique_ptr<DeviceEvent> make_event() override;

  const CudaDeviceInfo& info() const;

  struct Impl;

 private:
  std::byte* take(DeviceMemory::Where where, uint64_t n_bytes, const std::string& what) override;
  void give_back(DeviceMemory::Where where, std::byte* data) override;

  std::shared_ptr<Impl> impl_;  // streams and events keep it
};

/// How many GPUs there are; 0 with why in `reason` where the driver is missing or answers with an
/// error, and where it finds none.
int count_cuda_devices(const CudaApi& api, std::string& reason);

}  // namespace hybrid
