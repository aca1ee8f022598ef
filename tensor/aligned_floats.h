#pragma once
// Scratch of floats that begins on a cache line: a vector load never spans two.

#include <cstdint>
#include <memory>
#include <new>

namespace hybrid {

/// Grows and never shrinks. New memory is not touched, so pages come as they are written.
class AlignedFloats {
 public:
  /// Room for n floats; what was in it is lost where it has to grow.
  float* reserve(uint64_t n) {
    if (n > n_) {
      data_.reset();
      data_.reset(static_cast<float*>(::operator new(n * sizeof(float), kAlignment)));
      n_ = n;
    }
    return data_.get();
  }
  float* data() const { return data_.get(); }
  uint64_t size() const { return n_; }
  uint64_t n_bytes() const { return n_ * sizeof(float); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<float, Free> data_;
  uint64_t n_ = 0;
};

}  // namespace hybrid
