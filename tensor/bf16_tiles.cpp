#include "tensor/bf16_tiles.h"

#include <cstring>

namespace hybrid {

void clear_tile_row(uint64_t n_cols, std::byte* tiles, uint64_t row) {
  for (uint64_t g = 0; g < n_tile_groups(n_cols); ++g) {
    std::memset(tile_row(tiles, n_cols, row, g), 0, 64);
  }
}

}  // namespace hybrid
