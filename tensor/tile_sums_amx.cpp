#include "tensor/tile_sums.h"

#include <algorithm>

#include "tensor/simd_row-inl.h"
#include "tensor/tile_values-inl.h"

namespace hybrid {

void store_sums(const Bf16Product::Sums& s, uint64_t n_tokens, uint64_t n_rows, float* y,
                uint64_t y_stride) {
  const uint64_t first = s.tile * s.per_tile;
  const uint64_t n = std::min(n_tokens - first, s.n_tiles * s.per_tile);
  for (int p = 0; p < s.n_panels; ++p) {
    const uint64_t row = (2 * s.pair + static_cast<uint64_t>(p)) * kPanelRows;
    const auto mask = static_cast<__mmask16>((1u << std::min(kPanelRows, n_rows - row)) - 1);
    const __m512 factor = _mm512_set1_ps(s.factor[p]);
    const float* sums = s.sums + static_cast<uint64_t>(p) * s.n_tiles * 256;
    uint64_t at = 0, tile_end = s.per_tile;
    for (uint64_t t = 0; t < n; ++t, ++at) {
      if (t == tile_end) {
        at += kTileTokens - s.per_tile;
        tile_end += s.per_tile;
      }
      float* to = y + (first + t) * y_stride + row;
      __m512 lanes = _mm512_mul_ps(_mm512_loadu_ps(sums + 16 * at), factor);
      if (s.adds) lanes = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), lanes);
      _mm512_mask_storeu_ps(to, mask, lanes);
    }
  }
}

void store_gated_tiles(const Bf16Product::Sums& s, uint64_t n_cols, std::byte* tiles,
                       std::byte* rest) {
  const __m512 gate_factor = _mm512_set1_ps(s.factor[0]), up_factor = _mm512_set1_ps(s.factor[1]);
  const float* gate = s.sums;
  const float* up = s.sums + s.n_tiles * 256;
  const uint64_t column = s.pair * kPanelRows;
  for (uint64_t t = 0; t < s.n_tiles * kTileTokens; ++t) {
    if (t % kTileTokens >= s.per_tile) continue;
    const __m512 value = internal::silu_mul_lanes<SimdLevel::avx512_vnni>(
        _mm512_mul_ps(_mm512_loadu_ps(gate + 16 * t), gate_factor),
        _mm512_mul_ps(_mm512_loadu_ps(up + 16 * t), up_factor));
    std::byte* at = tile_row(tiles, n_cols, s.tile * kTileTokens + t, column / kTileCols) +
                    column % kTileCols * 2;
    _mm256_store_si256(reinterpret_cast<__m256i*>(at), internal::tile_values(value));
    if (rest == nullptr) continue;
    _mm256_store_si256(reinterpret_cast<__m256i*>(at + (rest - tiles)),
                       internal::tile_values(internal::rest_of(value)));
  }
}

}  // namespace hybrid
