#pragma once
// The grids of the codebook types (codebooks.h) in one piece, to be copied to a device once.

#include <cstdint>

namespace hybrid {

struct GridTables {
  uint64_t iq2_xxs[256];
  uint64_t iq2_xs[512];
  uint64_t iq2_s[1024];
  uint64_t iq1[2048];
  uint32_t iq3_xxs[256];
  uint32_t iq3_s[512];
};
static_assert(sizeof(GridTables) == 33792);

void fill_grid_tables(GridTables& tables);

}  // namespace hybrid
