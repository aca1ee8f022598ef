#pragma once
// The GPU that tests and benchmarks run on: the first one that CUDA sees. Calls throw Error with
// the call, the device and the bytes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/cuda_stream.h"

namespace hybrid::gpu {

/// Why there is no GPU to run on; empty where there is one.
std::string why_none();

/// "CUDA0 (NVIDIA H100)"
std::string title();

/// Throws where `status` is not 0. n_bytes: of what, 0 where there are none.
void check(int status, std::string_view call, uint64_t n_bytes = 0);

/// A stream that does not wait for the default stream, nor that for it.
CudaStream stream();

/// Waits for the stream; throws what a kernel or a launch on it did wrong.
void synchronize();

/// Memory of the GPU. Not initialised.
class Memory {
 public:
  explicit Memory(uint64_t n_bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <class T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t n_bytes() const { return n_bytes_; }

  void fill(int byte);
  /// From and to any memory of the host; done when they return.
  void upload(const void* from, uint64_t n_bytes);
  void download(void* to, uint64_t n_bytes) const;

 private:
  void* data_ = nullptr;
  uint64_t n_bytes_;
};

}  // namespace hybrid::gpu
