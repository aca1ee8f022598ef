#include "tensor/activation_blocks.h"

#include <algorithm>
#include <cstring>

#include "tensor/quantize_group.h"

namespace hybrid {

QuantizeGroupFn quantize_group_fn() {
  return with_simd_level([]<SimdLevel L>() { return quantize_group_at<L>(); });
}

void quantize_group(const float* x, ActivationBlock& block, uint32_t group) {
  quantize_group_fn()(x, block, group);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst) {
  const QuantizeGroupFn quantize = quantize_group_fn();
  for (uint64_t c = 0; c < n_cols; c += 32) {
    ActivationBlock& block = dst[c / ActivationBlock::kCols];
    const auto group = static_cast<uint32_t>(c % ActivationBlock::kCols / 32);
    if (c + 32 <= n_cols) {
      quantize(x + c, block, group);
    } else {
      float padded[32] = {};
      std::copy_n(x + c, n_cols - c, padded);
      quantize(padded, block, group);
    }
  }
  const float zeros[32] = {};
  const auto n_groups = static_cast<uint32_t>((n_cols + 31) / 32);
  for (uint32_t g = n_groups; g < 8 * n_activation_blocks(n_cols); ++g) {
    quantize(zeros, dst[g / 8], g % 8);
  }
}

}  // namespace hybrid
