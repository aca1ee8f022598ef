#pragma once
// What layers do to rows of floats beside products: exponentials, norms, rotations, conversions.
//
// Element-wise results are the same, at one level, wherever an element lies in its row.
// Exponentials are std::exp at the scalar level, and within 2e-7 of the true value (relative) at
// the wider ones, where those below the smallest normal float are 0.

#include <cstdint>

#include "base/half.h"
#include "tensor/quant_blocks.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// Looked up once per op, outside its loops. Rows that are written overlap no other argument unless
/// they are the same row.
struct RowOps {
  /// The largest of n >= 1 elements. NaN among them: any of them, or NaN.
  float (*max)(const float* x, uint64_t n);

  /// x[i] = exp(x[i] - max) and their sum; -infinity becomes 0.
  double (*exp_sum)(float* x, uint64_t n, float max);

  /// gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x))
  void (*silu_mul)(float* gate, const float* up, uint64_t n);

  double (*sum_of_squares)(const float* x, uint64_t n);

  /// x[i] *= factor
  void (*scale)(float* x, float factor, uint64_t n);

  /// y[i] = x[i] * factor * weight[i]; y may be x.
  void (*scale_by)(const float* x, float factor, const float* weight, float* y, uint64_t n);

  /// y[i] += x[i]
  void (*add)(const float* x, float* y, uint64_t n);

  /// (x[2i], x[2i+1]) rotated by (table[2i], table[2i+1]) = (cos, sin); n floats, n even.
  void (*rotate_pairs)(float* x, const float* table, uint64_t n);

  /// y[i] = f32_to_f16(x[i]), the same bits at every level.
  void (*to_f16)(const float* x, f16_t* y, uint64_t n);

  /// n_blocks blocks of 32: d = max |x| / 127 as f16, qs = x times the float nearest 1 / d, rounded
  /// to nearest even; the same bits at every level. Where d is 0, or no finite number, as an
  /// element that is none or is beyond 127 * 65504 makes it, all qs are 0.
  void (*to_q8_0)(const float* x, BlockQ8_0* blocks, uint64_t n_blocks);
};

/// The functions of the level in force.
RowOps row_ops();

template <SimdLevel L>
RowOps row_ops_at();

}  // namespace hybrid
