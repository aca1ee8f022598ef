#pragma once
// Matrix product with a weight in any type of the files: the base that every other kernel is
// compared with, and what runs where no faster one exists.

#include <cstdint>

#include "tensor/simd_level.h"
#include "tensor/tensor_view.h"

namespace hybrid {

/// y[t][r] = sum over c of weight[r][c] * x[t][c], for t < n_tokens.
struct MatmulArgs {
  TensorView weight;      // 2D: ne = {n_cols, n_rows}; its bytes may lie at any address
  const float* x;         // n_tokens rows of n_cols
  uint64_t x_stride;      // floats from one token's row to the next, at least n_cols
  float* y;               // n_tokens rows of n_rows; must not overlap x or the weight
  uint64_t y_stride;      // floats from one token's row to the next, at least n_rows
  uint64_t n_tokens = 0;  // 0 is fine: nothing is written
};

/// Writes y[t][r] for r in [row_begin, row_end) only, so that rows can be shared out over workers.
///
/// Weights are decoded exactly and sums are taken in float in the order of
/// VectorOps::dot at the level in force.
/// y[t][r] is therefore, for one level, the same
/// bit for bit whatever n_tokens, the split into rows and the
/// threads. The rows' bytes are read once for each block of tokens (512 KiB of x, at least 16
/// tokens). Each thread keeps a buffer of kMatmulRowGroup decoded rows, which grows to the longest
/// row it has met (matmul_thread_bytes()). Throws Error where shapes do not agree.
void matmul_rows(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end);

/// Rows that are decoded together.
inline constexpr uint64_t kMatmulRowGroup = 8;
uint64_t matmul_thread_bytes(uint64_t n_cols);

/// The kernel of one level; the arguments have been checked. row_buffer: kMatmulRowGroup * n_cols
/// floats.
template <SimdLevel L>
void matmul_rows_at(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end,
                    float* row_buffer);

}  // namespace hybrid
