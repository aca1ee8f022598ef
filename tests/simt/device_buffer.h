#pragma once
// Memory that stands for a device's: kernels may touch nothing else of the host. A GPU's own,
// behind the same interface, is in tests/cuda_gpu/device_buffer.h.
//
// Exactly as long as asked for, so that ASan sees an access behind it; with guards around it where
// the recorder watches. Filled with NaN until it is written.

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "tests/simt/engine.h"
#include "tests/simt/recorder.h"

namespace simt {

template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t n) : n_(n) {
    constexpr size_t kGuard = recorder::kGuardBytes;
    if (posix_memalign(&memory_, 256, kGuard + bytes() + kGuard + (bytes() == 0)) != 0) {
      throw std::bad_alloc();
    }
    data_ = reinterpret_cast<T*>(static_cast<char*>(memory_) + kGuard);
    std::memset(static_cast<void*>(data_), 0xff, bytes());
    recorder::add_memory(data_, bytes());
  }
  /// A copy of the host's.
  template <class Values>
  explicit DeviceBuffer(const Values& values) requires requires {
    values.data();
  } : DeviceBuffer(values.size() * sizeof(*values.data()) / sizeof(T)) {
    upload(values.data());
  }
  ~DeviceBuffer() {
    recorder::remove_memory(data_);
    std::free(memory_);
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() { return data_; }
  size_t size() const { return n_; }

  void upload(const void* values) {
    if (n_ == 0) return;
    std::memcpy(static_cast<void*>(data_), values, bytes());
    recorder::host_wrote(data_, bytes());
  }
  std::vector<T> download() const { return std::vector<T>(data_, data_ + n_); }
  /// The first element that nobody wrote, as far as this build knows; size() where there is none.
  size_t first_unwritten() const {
    size_t i = 0;
    while (i < n_ && recorder::is_written(data_ + i, sizeof(T))) ++i;
    return i;
  }

 private:
  size_t bytes() const { return n_ * sizeof(T); }

  size_t n_;
  void* memory_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace simt
