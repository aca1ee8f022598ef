#pragma once
// Activations as tiles of bytes for the matrix units: 16-bit fixed point numbers, 256 * high + low,
// both signed, with one scale for a token's kInt16StepCols columns.
//
// The scale follows the largest number, but for outliers: beyond 16 times the mean magnitude a
// number is cut, and what is cut off lies in a second set of tiles with scales of their own. Few
// columns have such a rest; which is noted for each tile of 64 columns.
//
//   tiles, rest            [tile of 16 tokens][64 columns][high, low]: 1 KB, token r's 64 bytes at
//                          byte 64 r; the rest is written only where has_rest
//   has_rest               [tile of 16 tokens][64 columns]
//   scales, rest_scales    [step of columns][token], tokens filled up to whole tiles

#include <cstddef>
#include <cstdint>

#include "tensor/bf16_tiles.h"

namespace hybrid {

inline constexpr uint64_t kInt16TileCols = 64;
inline constexpr uint64_t kInt16StepCols = 2048;

inline uint64_t n_int16_steps(uint64_t n_cols) {
  return (n_cols + kInt16StepCols - 1) / kInt16StepCols;
}
inline uint64_t n_int16_groups(uint64_t n_cols) {
  return (n_cols + kInt16TileCols - 1) / kInt16TileCols;
}
/// Bytes of 16 tokens, in tiles or rest.
inline uint64_t int16_tile_stride(uint64_t n_cols) {
  return n_int16_groups(n_cols) * 2 * kTileBytes;
}

/// Where the tiles of n_tokens tokens lie in a buffer.
struct Int16Layout {
  uint64_t n_tokens, n_cols;

  uint64_t n_tiles() const { return n_token_tiles(n_tokens); }
  uint64_t tiles_bytes() const { return n_tiles() * int16_tile_stride(n_cols); }
  uint64_t scale_stride() const { return n_tiles() * kTileTokens; }
  uint64_t n_scales() const { return scale_stride() * n_int16_steps(n_cols); }
  uint64_t n_flags() const { return n_tiles() * n_int16_groups(n_cols); }
  // Offsets of bytes: tiles at 0, then these.
  uint64_t rest_at() const { return tiles_bytes(); }
  uint64_t scales_at() const { return 2 * tiles_bytes(); }
  uint64_t rest_scales_at() const { return scales_at() + n_scales() * sizeof(float); }
  uint64_t flags_at() const { return rest_scales_at() + n_scales() * sizeof(float); }
  uint64_t n_bytes() const { return flags_at() + n_flags(); }
};

/// The same as pointers, from a tile of tokens on.
struct Int16Rows {
  const std::byte* tiles = nullptr;  // 64-byte aligned
  const std::byte* rest = nullptr;
  const float* scales = nullptr;
  const float* rest_scales = nullptr;
  const uint8_t* has_rest = nullptr;
  uint64_t n_tokens = 0;
  uint64_t scale_stride = 0;

  Int16Rows() = default;
  Int16Rows(const std::byte* buffer, const Int16Layout& layout)
      : tiles(buffer),
        rest(buffer + layout.rest_at()),
        scales(reinterpret_cast<const float*>(buffer + layout.scales_at())),
        rest_scales(reinterpret_cast<const float*>(buffer + layout.rest_scales_at())),
        has_rest(reinterpret_cast<const uint8_t*>(buffer + layout.flags_at())),
        n_tokens(layout.n_tokens),
        scale_stride(layout.scale_stride()) {}

  Int16Rows part(uint64_t first_tile, uint64_t n, uint64_t n_cols) const {
    Int16Rows some = *this;
    some.tiles += first_tile * int16_tile_stride(n_cols);
    some.rest += first_tile * int16_tile_stride(n_cols);
    some.scales += first_tile * kTileTokens;
    some.rest_scales += first_tile * kTileTokens;
    some.has_rest += first_tile * n_int16_groups(n_cols);
    const uint64_t left = n_tokens - first_tile * kTileTokens;
    some.n_tokens = left < n * kTileTokens ? left : n * kTileTokens;
    return some;
  }
};

/// 16 tokens, of which those past the end are zeros: x is [n_tokens][n_cols], all of them. Columns
/// past the end are zeros. A scale is no number where one of the floats is not finite. Needs the
/// amx level.
void store_int16_tile(const float* x, const Int16Layout& layout, uint64_t tile, std::byte* buffer);

}  // namespace hybrid
