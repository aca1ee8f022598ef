#pragma once
// Sums over vectors of floats, in an order that is part of the contract.

#include <cstdint>

#include "tensor/simd_level.h"

namespace hybrid {

/// Looked up once per op, outside its loops.
struct VectorOps {
  /// sum of a[i] * b[i], i < n, in float. Element i goes to lane i % n_lanes, with 8 lanes at the
  /// scalar level (products not fused), 8 at avx2 and 16 at avx512_vnni (fused). The lanes are
  /// summed over 256 elements at a time (the last n % n_lanes by themselves) and those sums added
  /// to totals, which are added by halves at the end: the rounding error grows with sqrt(256 /
  /// n_lanes + n / 256) instead of sqrt(n). matmul takes its sums in the same order.
  float (*dot)(const float* a, const float* b, uint64_t n);

  /// y[i] += alpha * x[i], i < n, never fused. x and y do not overlap.
  void (*axpy)(float alpha, const float* x, float* y, uint64_t n);
};

/// The functions of the level in force.
VectorOps vector_ops();

template <SimdLevel L>
VectorOps vector_ops_at();

}  // namespace hybrid
