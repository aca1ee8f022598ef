#pragma once
// The tile registers of the matrix unit (AMX).
//
// Own statements instead of the intrinsics, whose operands are text to the preprocessor: these take
// template arguments. "memory": tiles are read from what vector stores have just written.

#include <cstdint>

namespace hybrid::internal {
namespace {

#define HYBRID_TILE_INLINE inline __attribute__((always_inline))

/// Rows of 64 bytes (see TileScope), at a distance of `stride` bytes.
template <int kTile>
HYBRID_TILE_INLINE void tile_load(const void* p, uint64_t stride = 64) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
HYBRID_TILE_INLINE void tile_store(void* p, uint64_t stride = 64) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
HYBRID_TILE_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
/// Sums += a * b: sums[m][n] += a[m][2 i] * b[i][n][0] + a[m][2 i + 1] * b[i][n][1] over the rows i
/// of b, for bf16 a and b and float sums.
template <int kSums, int kA, int kB>
HYBRID_TILE_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

/// The same for signed bytes, four in a row of b, and integer sums.
template <int kSums, int kA, int kB>
HYBRID_TILE_INLINE void tile_multiply_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

/// All eight tiles, with rows of 64 bytes, for as long as it lives: `n_rows` rows, the last tile
/// (the b of products) always 16.
class TileScope {
 public:
  explicit TileScope(uint64_t n_rows = 16) {
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t n_bytes[16] = {};
      uint8_t n_rows[16] = {};
    } config;
    static_assert(sizeof(Config) == 64);
    for (int i = 0; i < 8; ++i) {
      config.n_bytes[i] = 64;
      config.n_rows[i] = static_cast<uint8_t>(i == 7 ? 16 : n_rows);
    }
    asm volatile("ldtilecfg (%0)" ::"r"(&config) : "memory");
  }
  ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

}  // namespace
}  // namespace hybrid::internal
