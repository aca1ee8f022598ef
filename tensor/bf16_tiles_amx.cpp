#include <algorithm>

#include "tensor/tile_values-inl.h"

namespace hybrid {

void store_tile_row(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t token) {
  for (uint64_t c = 0; c < n_cols; c += kTileCols) {
    auto* row = reinterpret_cast<__m256i*>(tile_row(tiles, n_cols, token, c / kTileCols));
    float padded[kTileCols] = {};
    const float* from = x + c;
    if (c + kTileCols > n_cols) {
      std::copy_n(from, n_cols - c, padded);
      from = padded;
    }
    _mm256_store_si256(row, internal::tile_values(_mm512_loadu_ps(from)));
    _mm256_store_si256(row + 1, internal::tile_values(_mm512_loadu_ps(from + 16)));
  }
}

}  // namespace hybrid
