#pragma once
// Products of packed F16 and BF16 weights with activations in float: exact weights, sums in float
// in the order of the columns.

#include <cstdint>

#include "tensor/panel.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// y[t * y_stride + r] for the matrix rows r of panels [begin, end); rows past n_rows are skipped.
struct FloatProduct {
  PanelMatrix weight;        // F16 or BF16
  const float* x = nullptr;  // n_tokens rows of n_cols
  uint64_t x_stride = 0;
  uint64_t n_tokens = 0;
  float* y = nullptr;
  uint64_t y_stride = 0;
};

using FloatProductFn = void (*)(const FloatProduct& args, uint64_t panel_begin, uint64_t panel_end);

/// Null for other types.
template <SimdLevel L>
FloatProductFn float_product_at(DType type);

}  // namespace hybrid
