#pragma once
// Products of a range of a weight's panels, at the wide levels: finds the kernel for type, level
// and form of the activations, and packs on the spot what was not packed.

#include "tensor/activation_blocks.h"
#include "tensor/int16_tiles.h"
#include "tensor/panel_bf16.h"
#include "tensor/precision.h"
#include "tensor/weight.h"

namespace hybrid {

// All weights here are single matrices. y[t * y_stride + r] is row r of panel `begin` on, so that a
// caller can have the range alone in a buffer of its own.

/// Tokens as blocks; rows[t * n_parts + part]. Two parts: bytes and their rest, or words.
struct ByteRows {
  const ActivationBlock* const* rows = nullptr;
  int n_parts = 1;
  uint64_t n_tokens = 0;
  bool words = false;

  ByteRows part(uint64_t first, uint64_t n) const {
    return {rows + first * static_cast<uint64_t>(n_parts), n_parts, n, words};
  }
};

/// Tokens as tiles; rest: null, or the second parts, as many tiles.
struct TileRows {
  const std::byte* tiles = nullptr;
  const std::byte* rest = nullptr;
  uint64_t n_tiles = 0;
  uint64_t per_tile = kTileTokens;  // see Bf16Product

  TileRows part(uint64_t first, uint64_t n, uint64_t n_cols) const {
    const uint64_t offset = tiles_bytes(first * kTileTokens, n_cols);
    return {tiles + offset, rest == nullptr ? nullptr : rest + offset, n, per_tile};
  }
};

/// Quantised types.
void multiply_bytes(const Weight& w, const ByteRows& x, float* y, uint64_t y_stride, uint64_t begin,
                    uint64_t end);

/// Two quantised weights of the same type and shape with one token, read side by side.
void multiply_bytes(const Weight& first, const Weight& second, const ByteRows& x, float* y_first,
                    float* y_second, uint64_t begin, uint64_t end);

/// F16 and BF16; x: n_tokens rows of n_cols floats without gaps.
void multiply_floats(const Weight& w, const float* x, uint64_t n_tokens, float* y,
                     uint64_t y_stride, uint64_t begin, uint64_t end);

// The same with all panels of a matrix that is packed; y[t * y_stride + r].
void multiply_panels(const PanelMatrix& w, const ByteRows& x, float* y, uint64_t y_stride);
void multiply_panels(const PanelMatrix& w, const float* x, uint64_t n_tokens, float* y,
                     uint64_t y_stride);

/// Every type but F32, at the amx level. Pairs of panels as Bf16Product has them, `second` empty or
/// of the same type and shape as `first`. done() may be called in any order of pairs and tiles.
void multiply_tiles(const Weight& first, const Weight& second, const TileRows& x,
                    uint64_t pair_begin, uint64_t pair_end,
                    FunctionRef<void(const Bf16Product::Sums&)> done);

/// Types that have int16_kernels(), at the amx level; y as of multiply_bytes().
void multiply_int16(const Weight& w, const Int16Rows& x, float* y, uint64_t y_stride,
                    uint64_t begin, uint64_t end);

}  // namespace hybrid
