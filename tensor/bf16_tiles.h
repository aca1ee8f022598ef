#pragma once
// Activations as tiles of bf16 for the matrix units.
//
// A tile is up to 16 tokens by 32 columns, 1 KB: the 32 values of its row r follow each other at
// byte 64 r. Tiles of the same tokens follow each other in the order of their columns. Within each
// four columns the order is 0 2 1 3, which is how unpacked weights fall (panel_bf16-inl.h); the sum
// over columns does not mind. Values carry a factor of 2^64 that kernels take out again: it keeps
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

/// How tokens are shared out: to as few tiles as hold them, the same number to each (but what lacks
/// in the last ones). The units multiply 12 rows in five sixths of the time of 16, 8 in three
/// quarters (docs/kernels.md), so 17 tokens are two tiles of 9, not 16 and one of 1.
class TokenTiles {
 public:
  explicit TokenTiles(uint64_t n_tokens)
      : n_tokens_(n_tokens),
        n_tiles_(n_token_tiles(n_tokens)),
        per_tile_(n_tokens == 0 ? 1 : (n_tokens + n_tiles_ - 1) / n_tiles_) {}
  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_tiles() const { return n_tiles_; }
  uint64_t per_tile() const { return per_tile_; }  // 1 to 16
  /// Places of tokens and, from n_tokens on, of rows that no token has.
  uint64_t n_places() const { return n_tiles_ * per_tile_; }
  /// The row that a token has, counting 16 to a tile.
  uint64_t row(uint64_t token) const { return token / per_tile_ * kTileTokens + token % per_tile_; }

 private:
  uint64_t n_tokens_, n_tiles_, per_tile_;
};

/// Where the values of a row and a group of 32 columns lie: 64 bytes.
inline std::byte* tile_row(std::byte* tiles, uint64_t n_cols, uint64_t row, uint64_t group) {
  return tiles + (row / kTileTokens * n_tile_groups(n_cols) + group) * kTileBytes +
         row % kTileTokens * 64;
}

/// n_cols floats, rounded to nearest even, into a row; columns past the end are zeros. Needs the
/// amx level.
void store_tile_row(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t row);

/// What the rounding of store_tile_row left, rounded the same way.
void store_tile_rest(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t row);

/// Makes a row zeros.
void clear_tile_row(uint64_t n_cols, std::byte* tiles, uint64_t row);

}  // namespace hybrid
