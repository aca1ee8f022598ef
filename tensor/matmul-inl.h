#pragma once
// The body of matmul_rows at every level: rows are decoded to floats a few at a time and multiplied
// with all tokens. Compiled by matmul_<level>.cpp.

#include "tensor/dequantize.h"
#include "tensor/dot_tile-inl.h"
#include "tensor/matmul.h"

namespace hybrid::internal {
namespace {

/// The tile for two or more tokens, and for one: as many sums as fit the level's registers.
template <SimdLevel L>
struct TileShape;
template <>
struct TileShape<SimdLevel::scalar> {
  static constexpr int kRows = 2, kTokens = 2, kRowsOfOne = 4;
};
template <>
struct TileShape<SimdLevel::avx2> {
  static constexpr int kRows = 4, kTokens = 2, kRowsOfOne = 8;
};
template <>
struct TileShape<SimdLevel::avx512_vnni> {
  static constexpr int kRows = 4, kTokens = 4, kRowsOfOne = 8;
};

/// n_rows decoded rows times T tokens.
template <SimdLevel L, int R, int T>
void tiles_of_rows(Rows w, uint64_t n_rows, Rows x, uint64_t n_cols, float* y, uint64_t y_stride) {
  uint64_t r = 0;
  for (; r + R <= n_rows; r += R) {
    dot_tile<L, R, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
  for (; r < n_rows; ++r) {
    dot_tile<L, 1, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
}

/// Tokens that stay in the L2 cache while all rows of the weight pass by: with 512 tokens of 7168
/// this was up to twice as fast as streaming x for every kMatmulRowGroup rows, though rows are
/// decoded once for each block of tokens. A multiple of four, so that tiles are full.
inline uint64_t tokens_per_block(uint64_t n_cols) {
  constexpr uint64_t kBlockFloats = 512 * 1024 / sizeof(float);
  const uint64_t n = kBlockFloats / n_cols / 4 * 4;
  return n < 16 ? 16 : n;
}

template <SimdLevel L>
void decoded_rows(const MatmulArgs& args, Rows w, uint64_t n_rows, uint64_t t, uint64_t t_end,
                  float* y) {
  using Tile = TileShape<L>;
  const uint64_t n_cols = args.weight.n_cols();
  for (; t + Tile::kTokens <= t_end; t += Tile::kTokens) {
    const Rows x{args.x + t * args.x_stride, args.x_stride};
    tiles_of_rows<L, Tile::kRows, Tile::kTokens>(w, n_rows, x, n_cols, y + t * args.y_stride,
                                                 args.y_stride);
  }
  for (; t < t_end; ++t) {
    const Rows x{args.x + t * args.x_stride, args.x_stride};
    tiles_of_rows<L, Tile::kRowsOfOne, 1>(w, n_rows, x, n_cols, y + t * args.y_stride,
                                          args.y_stride);
  }
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
      decoded_rows<L>(args, {row_buffer, n_cols}, n_rows, t, t_end, args.y + r);
    }
  }
}

}  // namespace
}  // namespace hybrid::internal
