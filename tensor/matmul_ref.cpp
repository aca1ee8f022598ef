#include <algorithm>
#include <vector>

#include "tensor/dequantize.h"
#include "tensor/dot_tile-inl.h"
#include "tensor/matmul.h"

namespace hybrid::scalar {
namespace {

using internal::dot_tile;
using internal::Rows;

/// Grows and is never given back: a thread meets the same few row lengths over and over.
float* row_buffer(uint64_t n_floats) {
  thread_local std::vector<float> buffer;
  if (buffer.size() < n_floats) buffer.resize(n_floats);
  return buffer.data();
}

/// n_rows decoded rows times T tokens.
template <int R, int T>
void tiles_of_rows(Rows w, uint64_t n_rows, Rows x, uint64_t n_cols, float* y, uint64_t y_stride) {
  uint64_t r = 0;
  for (; r + R <= n_rows; r += R) {
    dot_tile<R, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
  for (; r < n_rows; ++r) {
    dot_tile<1, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
}

/// Rows of x that stay in the L2 cache while all rows of the weight pass by: with 512 tokens of
/// 7168 this was up to twice as fast as streaming x for every kMatmulRowGroup rows, though rows
/// are decoded once for each block of tokens. Even, so that only the last block has a token alone.
uint64_t tokens_per_block(uint64_t n_cols) {
  constexpr uint64_t kBlockFloats = 512 * 1024 / sizeof(float);
  return std::max<uint64_t>(16, kBlockFloats / n_cols / 2 * 2);
}

/// 2 x 2 fills SSE's sixteen registers; a last token alone takes four rows at a time instead.
void decoded_rows(const MatmulArgs& args, Rows w, uint64_t n_rows, uint64_t t, uint64_t t_end,
                  float* y) {
  const uint64_t n_cols = args.weight.n_cols();
  for (; t + 2 <= t_end; t += 2) {
    const Rows x{args.x + t * args.x_stride, args.x_stride};
    tiles_of_rows<2, 2>(w, n_rows, x, n_cols, y + t * args.y_stride, args.y_stride);
  }
  if (t < t_end) {
    const Rows x{args.x + t * args.x_stride, args.x_stride};
    tiles_of_rows<4, 1>(w, n_rows, x, n_cols, y + t * args.y_stride, args.y_stride);
  }
}

}  // namespace

void matmul_rows(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end) {
  const TensorView& weight = args.weight;
  const uint64_t n_cols = weight.n_cols();
  const uint64_t n_block_tokens = tokens_per_block(n_cols);
  float* buffer = row_buffer(kMatmulRowGroup * n_cols);
  for (uint64_t t = 0; t < args.n_tokens; t += n_block_tokens) {
    const uint64_t t_end = std::min(t + n_block_tokens, args.n_tokens);
    for (uint64_t r = row_begin; r < row_end; r += kMatmulRowGroup) {
      const uint64_t n_rows = std::min(kMatmulRowGroup, row_end - r);
      dequantize(weight.type, weight.row(r), buffer, n_rows * n_cols);
      decoded_rows(args, {buffer, n_cols}, n_rows, t, t_end, args.y + r);
    }
  }
}

}  // namespace hybrid::scalar
