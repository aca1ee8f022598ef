#pragma once
// Activations as tiles of bf16 for the matrix units.
//
// A tile is 16 tokens by 32 columns, 1 KB: token r's 32 values follow each other at byte 64 r.
// Tiles of the same 16 tokens follow each other in the order of their columns. Within each four
// columns the order is 0 2 1 3, which is how unpacked weights fall (panel_bf16-inl.h); the sum over
// columns does not mind. Values carry a factor of 2^64 that kernels take out again: it keeps
// products with weights that carry 2^-112 away from the subnormal numbers, which the units take for
// zero.

#include <cstddef>
#include <cstdint>

namespace hybrid {

inline constexpr uint64_t kTileTokens = 16;
inline constexpr uint64_t kTileCols = 32;
inline constexpr uint64_t kTileBytes = 1024;
inline constexpr int kTileExponent = 64;

inline uint64_t n_tile_groups(uint64_t n_cols) { return (n_cols + kTileCols - 1) / kTileCols; }

inline uint64_t n_token_tiles(uint64_t n_tokens) {
  return (n_tokens + kTileTokens - 1) / kTileTokens;
}

inline uint64_t tiles_bytes(uint64_t n_tokens, uint64_t n_cols) {
  return n_token_tiles(n_tokens) * n_tile_groups(n_cols) * kTileBytes;
}

/// Where the values of a token and a group of 32 columns lie: 64 bytes.
inline std::byte* tile_row(std::byte* tiles, uint64_t n_cols, uint64_t token, uint64_t group) {
  return tiles + (token / kTileTokens * n_tile_groups(n_cols) + group) * kTileBytes +
         token % kTileTokens * 64;
}

/// One row of n_cols floats, rounded to nearest even, into its place; columns past the end are
/// zeros. Needs the amx level.
void store_tile_row(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t token);

/// What the rounding of store_tile_row left, rounded the same way.
void store_tile_rest(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t token);

/// Makes a token's row zeros.
void clear_tile_row(uint64_t n_cols, std::byte* tiles, uint64_t token);

}  // namespace hybrid
