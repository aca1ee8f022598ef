#include "tensor/activation_blocks.h"

#include <algorithm>

#include "tensor/quantize_group.h"

namespace hybrid {

namespace {

/// Of the level in force.
QuantizeGroup quantize_group_now() {
  return with_simd_level([]<SimdLevel L>() { return quantize_group_at<L>(); });
}

/// body(32 floats, block, group of it) for a row.
template <class Body>
void for_groups(const float* x, uint64_t n_cols, const Body& body) {
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
    body(from, g / 8, static_cast<uint32_t>(g % 8));
  }
}

}  // namespace

void quantize_group(const float* x, ActivationBlock& block, ActivationBlock* rest, uint32_t group) {
  quantize_group_now().to_bytes(x, block, rest, group);
}

void quantize_group_to_words(const float* x, ActivationBlock& first, ActivationBlock& second,
                             uint32_t group) {
  quantize_group_now().to_words(x, first, second, group);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst) {
  quantize_row(x, n_cols, dst, nullptr);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst, ActivationBlock* rest) {
  const auto quantize = quantize_group_now().to_bytes;
  for_groups(x, n_cols, [&](const float* from, uint64_t block, uint32_t group) {
    quantize(from, dst[block], rest == nullptr ? nullptr : rest + block, group);
  });
}

void quantize_row_to_words(const float* x, uint64_t n_cols, ActivationBlock* first,
                           ActivationBlock* second) {
  const auto quantize = quantize_group_now().to_words;
  for_groups(x, n_cols, [&](const float* from, uint64_t block, uint32_t group) {
    quantize(from, first[block], second[block], group);
  });
}

}  // namespace hybrid
