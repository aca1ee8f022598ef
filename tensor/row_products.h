#pragma once
// Products of a few rows of floats with a few rows of floats, all of them in the caches: what
// attention of few queries consists of.

#include <cstdint>

#include "tensor/simd_level.h"

namespace hybrid {

/// Rows of floats at a distance of `stride`.
struct FloatRows {
  const float* data;
  uint64_t stride;
};

/// Looked up once per op, outside its loops. No result depends on how many rows there are.
struct RowProducts {
  /// y[t * y_stride + r] = dot product of rows r of w and t of x, of n floats, each taken in the
  /// order of VectorOps::dot.
  void (*dots)(FloatRows w, uint64_t n_rows, FloatRows x, uint64_t n_x, uint64_t n, float* y,
               uint64_t y_stride);

  /// y[t * y_stride + i] += sum over r of a[t][r] * w[r][i], i < n; a product at a time onto y,
  /// from r = 0 upwards (fused at avx2 and avx512_vnni, but for the last n % n_lanes).
  void (*add_weighted)(FloatRows a, uint64_t n_y, FloatRows w, uint64_t n_rows, uint64_t n,
                       float* y, uint64_t y_stride);
};

/// The functions of the level in force.
RowProducts row_products();

template <SimdLevel L>
RowProducts row_products_at();

}  // namespace hybrid
