#pragma once
// Weights in a device's memory: the CPU's panels (panel.h), byte for byte, so that what was packed
// for one can be copied to the other.

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/grid_tables.h"

namespace hybrid {

/// One matrix, or a stack of equal ones (experts): matrix i's panels follow those of matrix i - 1.
struct DevicePanels {
  DType type = DType::f32;
  uint32_t n_cols = 0;
  uint32_t n_rows = 0;                // of one matrix
  const std::byte* data = nullptr;    // 64-byte aligned
  const GridTables* grids = nullptr;  // codebook types need them
};

}  // namespace hybrid
