#pragma once
// RowFilter (row_ops_cuda.h) in kernels.

#include "tensor/row_ops_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

HYBRID_DEVICE bool has_row(const RowFilter& filter, uint32_t row) {
  if (filter.n_rows != nullptr) return row < *filter.n_rows;
  return filter.local == nullptr || filter.local[filter.ids[row]] >= 0;
}

}  // namespace hybrid::cuda
