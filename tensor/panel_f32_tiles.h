#pragma once
// panel_matmul on the matrix unit (panel_f32.h); needs the amx level.
//
// Both sides are rewritten as tiles of bf16 first, a block of lanes and a block of tokens at a
// time, which stay in the L2 cache. A float becomes the sum of two bf16 numbers, its parts:
//
//   a: tiles of 16 tokens and 32 k, token by token; [tile][group of 32 k][part]
//   b: tiles of 32 k and 16 lanes, two k in each dword; [panel][group][part]

#include <algorithm>
#include <cstddef>

#include "tensor/bf16_tiles.h"
#include "tensor/panel_f32.h"

namespace hybrid {

inline constexpr uint64_t kPanelsOfBlock = 16;
inline constexpr uint64_t kTilesOfBlock = 8;
inline constexpr uint64_t kGroupBytes = 2 * kTileBytes;  // both parts

/// What the tiles of a block take.
inline uint64_t a_tiles_bytes(uint64_t n_tokens, uint64_t n_k) {
  return std::min(n_token_tiles(n_tokens), kTilesOfBlock) * n_tile_groups(n_k) * kGroupBytes;
}
inline uint64_t b_tiles_bytes(uint64_t n_k, uint64_t n_lanes) {
  return std::min(n_panels_of(n_lanes), kPanelsOfBlock) * n_tile_groups(n_k) * kGroupBytes;
}

/// a and b: scratch of those sizes, beginning on a cache line; not used where a side is prepared.
void panel_matmul_tiles(const PanelArgs& args, std::byte* a, std::byte* b);

/// prepare_panels() of one panel: [group][part], in the place of the floats.
void prepare_panel_tiles(float* panel, uint64_t n_k);

/// prepare_rows(): [tile][group][part], each tile in the place of its 16 rows. tile: scratch of
/// kGroupBytes for each group.
void prepare_row_tiles(float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k,
                       std::byte* tile);

}  // namespace hybrid
