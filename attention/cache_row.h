#pragma once
// A row of the cache: what attention keeps of one position (and one head, where heads have their
// own).
//
//   f32    n + n_exact floats
//   f16    n + n_exact half floats
//   q8_0   ceil(n / 32) blocks of 34 bytes (scale as f16, 32 int8; the last one filled up with
//          zeros), then n_exact half floats
//
// n_exact are the elements that are not worth rounding further: rotary parts of keys, which are few
// and carry the position. As blocks, too, DeepSeek's rows would have 612 bytes instead of 672, 9 %
// less, and the logits of random models 9 to 20 % more error (docs/measurements.md).

#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "base/rounding.h"
#include "tensor/dtype.h"

namespace hybrid {

struct CacheRow {
  DType type = DType::f16;  // f32, f16 or q8_0
  uint32_t n = 0;
  uint32_t n_exact = 0;

  uint32_t dim() const { return n + n_exact; }
  uint64_t n_bytes() const {
    if (type != DType::q8_0) return row_bytes(type, dim());
    return row_bytes(type, round_up(n, 32)) + n_exact * sizeof(f16_t);
  }

  /// from: dim() floats. to: n_bytes().
  void store(const float* from, std::byte* to) const;

  /// n_rows rows that follow each other, as floats, [n_rows][dim()].
  void load(const std::byte* from, uint64_t n_rows, float* to) const;
};

}  // namespace hybrid
