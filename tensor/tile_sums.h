#pragma once
// What becomes of the matrix units' sums.

#include <cstdint>

#include "tensor/panel_bf16.h"

namespace hybrid {

/// y[t * y_stride + r] = sums, for the tokens below n_tokens and rows below n_rows of the matrix.
void store_sums(const Bf16Product::Sums& s, uint64_t n_tokens, uint64_t n_rows, float* y,
                uint64_t y_stride);

/// silu(gate) * up of a pair of panels (gate first) into the tile rows of the tokens; columns of
/// the tiles are the rows of the pair. Tokens past the end are whatever their sums are: finite for
/// zeros. Rows past n_rows are zeros. n_cols: of the tiles. rest: null, or where to put what the
/// rounding leaves, as tiles of the same layout.
void store_gated_tiles(const Bf16Product::Sums& s, uint64_t n_cols, std::byte* tiles,
                       std::byte* rest);

}  // namespace hybrid
