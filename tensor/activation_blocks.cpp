#include "tensor/activation_blocks.h"

#include <algorithm>

#include "tensor/quantize_group.h"

namespace hybrid {

QuantizeGroupFn quantize_group_fn() {
  return with_simd_level([]<SimdLevel L>() { return quantize_group_at<L>(); });
}

void quantize_group(const float* x, ActivationBlock& block, ActivationBlock* rest, uint32_t group) {
  quantize_group_fn()(x, block, rest, group);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst) {
  quantize_row(x, n_cols, dst, nullptr);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst, ActivationBlock* rest) {
  const QuantizeGroupFn quantize = quantize_group_fn();
  const uint64_t n_groups = 8 * n_activation_blocks(n_cols);
  for (uint64_t g = 0; g < n_groups; ++g) {
    const uint64_t column = 32 * g;
    float padded[32] = {};
    const float* from = padded;
    if (column + 32 <= n_cols) {
      from = x + column;
    } else if (column < n_cols) {
      std::copy_n(x + column, n_cols - column, padded);
    }
    quantize(from, dst[g / 8], rest == nullptr ? nullptr : rest + g / 8,
             static_cast<uint32_t>(g % 8));
  }
}

}  // namespace hybrid
