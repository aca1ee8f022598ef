#include "tensor/activation_blocks.h"

#include <algorithm>

#include "tensor/quantize_group.h"

namespace hybrid {

namespace {

/// Of the level in force.
QuantizeGroup quantize_group_now() {
  return with_simd_level([]<SimdLevel L>() { return quantize_group_at<L>(); });
}

/// body(`step` floats, first column of them) for a row filled up with zeros to whole blocks.
template <uint64_t step, class Body>
void for_columns(const float* x, uint64_t n_cols, const Body& body) {
  const uint64_t end = ActivationBlock::kCols * n_activation_blocks(n_cols);
  for (uint64_t column = 0; column < end; column += step) {
    float padded[step];
    const float* from = x + column;
    if (column + step > n_cols) {
      std::fill_n(padded, step, 0.0f);
      if (column < n_cols) std::copy_n(from, n_cols - column, padded);
      from = padded;
    }
    body(from, column);
  }
}

}  // namespace

void quantize_group(const float* x, ActivationBlock& block, ActivationBlock* rest, uint32_t group) {
  quantize_group_now().to_bytes(x, block, rest, group);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst) {
  quantize_row(x, n_cols, dst, nullptr);
}

void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst, ActivationBlock* rest) {
  const auto quantize = quantize_group_now().to_bytes;
  for_columns<32>(x, n_cols, [&](const float* from, uint64_t column) {
    const uint64_t block = column / ActivationBlock::kCols;
    quantize(from, dst[block], rest == nullptr ? nullptr : rest + block,
             static_cast<uint32_t>(column % ActivationBlock::kCols / 32));
  });
}

void quantize_row_to_words(const float* x, uint64_t n_cols, ActivationBlock* first,
                           ActivationBlock* second) {
  const auto quantize = quantize_group_now().to_words;
  for_columns<ActivationBlock::kCols>(x, n_cols, [&](const float* from, uint64_t column) {
    const uint64_t block = column / ActivationBlock::kCols;
    quantize(from, first[block], second[block]);
  });
}

}  // namespace hybrid
