#include <algorithm>

#include "tensor/tile_values-inl.h"

namespace hybrid {
namespace {

/// convert(16 floats) -> the 32 bytes of a tile row they become, for all columns of a row.
template <class Convert>
void store_row(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t row,
               const Convert& convert) {
  for (uint64_t c = 0; c < n_cols; c += kTileCols) {
    auto* to = reinterpret_cast<__m256i*>(tile_row(tiles, n_cols, row, c / kTileCols));
    float padded[kTileCols] = {};
    const float* from = x + c;
    if (c + kTileCols > n_cols) {
      std::copy_n(from, n_cols - c, padded);
      from = padded;
    }
    _mm256_store_si256(to, convert(_mm512_loadu_ps(from)));
    _mm256_store_si256(to + 1, convert(_mm512_loadu_ps(from + 16)));
  }
}

}  // namespace

void store_tile_row(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t row) {
  store_row(x, n_cols, tiles, row, [](__m512 v) { return internal::tile_values(v); });
}

void store_tile_rest(const float* x, uint64_t n_cols, std::byte* tiles, uint64_t row) {
  store_row(x, n_cols, tiles, row,
            [](__m512 v) { return internal::tile_values(internal::rest_of(v)); });
}

}  // namespace hybrid
