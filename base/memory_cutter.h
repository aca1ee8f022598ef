#pragma once
// Arrays one behind the other in one piece of memory, each from a multiple of 256 bytes on. Without
// memory it only counts, so that what is taken and what is planned come from the same lines.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace hybrid {

class MemoryCutter {
 public:
  explicit MemoryCutter(std::byte* memory) : memory_(memory) {}

  /// Room for n elements; null without memory.
  template <class T>
  T* take(uint64_t n) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at_);
    at_ += (n * sizeof(T) + 255) / 256 * 256;
    most_ = std::max(most_, at_);
    return array;
  }

  /// Where the next array begins. Going back there lets arrays that are not used at the same time
  /// share memory.
  uint64_t position() const { return at_; }
  void go_back_to(uint64_t position) { at_ = position; }

  uint64_t n_bytes() const { return most_; }

 private:
  std::byte* memory_;
  uint64_t at_ = 0, most_ = 0;
};

}  // namespace hybrid
