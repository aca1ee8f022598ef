#pragma once
// tests/simt/device_buffer.h on a GPU.
//
// Filled with 0xff (NaN) until it is written; with HYBRID_CUDA_TEST_UNFILLED=1 in the environment
// it is not, because compute-sanitizer's initcheck would take the filling for a write.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#include "tests/cuda_gpu/gpu.h"

namespace hybrid::gpu {

inline bool fills_buffers() {
  const char* unfilled = std::getenv("HYBRID_CUDA_TEST_UNFILLED");
  return unfilled == nullptr || std::strcmp(unfilled, "1") != 0;
}

template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t n) : n_(n), memory_(n * sizeof(T)) {
    if (fills_buffers()) memory_.fill(0xff);
  }
  /// A copy of the host's.
  template <class Values>
  explicit DeviceBuffer(const Values& values) requires requires {
    values.data();
  } : n_(values.size() * sizeof(*values.data()) / sizeof(T)), memory_(n_ * sizeof(T)) {
    upload(values.data());
  }

  T* data() { return memory_.as<T>(); }
  size_t size() const { return n_; }

  void upload(const void* values) { memory_.upload(values, n_ * sizeof(T)); }
  /// Throws where a kernel or a launch before it failed.
  std::vector<T> download() const {
    std::vector<T> values(n_);
    memory_.download(values.data(), n_ * sizeof(T));
    return values;
  }
  /// As far as it can be told: an element that is all 0xff, which no kernel leaves as a float or an
  /// unsigned number. Of bytes and signed numbers (-1) nothing is known, nor without the filling.
  size_t first_unwritten() const {
    if (!fills_buffers() || sizeof(T) == 1 || (std::is_integral_v<T> && std::is_signed_v<T>)) {
      return n_;
    }
    const std::vector<T> values = download();
    for (size_t i = 0; i < n_; ++i) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(&values[i]);
      if (std::all_of(bytes, bytes + sizeof(T), [](unsigned char b) { return b == 0xff; })) {
        return i;
      }
    }
    return n_;
  }

 private:
  size_t n_;
  Memory memory_;
};

}  // namespace hybrid::gpu
