#pragma once
// The body of matmul_rows at every level: rows are decoded to floats a few at a time and multiplied
// with all tokens. Compiled by matmul_<level>.cpp.

#include "tensor/dequantize.h"
#include "tensor/matmul.h"
#include "tensor/row_products-inl.h"

namespace hybrid::internal {
namespace {

/// Tokens that stay in the L2 cache while all rows of the weight pass by: with 512 tokens of 7168
/// this was up to twice as fast as streaming x for every kMatmulRowGroup rows, though rows are
/// decoded once for each block of tokens. A multiple of four, so that tiles are full.
inline uint64_t tokens_per_block(uint64_t n_cols) {
  constexpr uint64_t kBlockFloats = 512 * 1024 / sizeof(float);
  const uint64_t n = kBlockFloats / n_cols / 4 * 4;
  return n < 16 ? 16 : n;
}

template <SimdLevel L>
void matmul_rows_body(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end,
                      float* row_buffer) {
  const TensorView& weight = args.weight;
  const uint64_t n_cols = weight.n_cols();
  const uint64_t n_block_tokens = tokens_per_block(n_cols);
  const DequantizeFn decode = dequantize_fn_at<L>(weight.type);
  const uint64_t row_bytes = weight.row_bytes();
  for (uint64_t t = 0; t < args.n_tokens; t += n_block_tokens) {
    const uint64_t left = args.n_tokens - t;
    const uint64_t t_end = t + (left < n_block_tokens ? left : n_block_tokens);
    for (uint64_t r = row_begin; r < row_end; r += kMatmulRowGroup) {
      const uint64_t n_rows = row_end - r < kMatmulRowGroup ? row_end - r : kMatmulRowGroup;
      decode(weight.data.data() + r * row_bytes, row_buffer, n_rows * n_cols);
      dots_of_rows<L>({row_buffer, n_cols}, n_rows, {args.x + t * args.x_stride, args.x_stride},
                      t_end - t, n_cols, args.y + t * args.y_stride + r, args.y_stride);
    }
  }
}

}  // namespace
}  // namespace hybrid::internal
