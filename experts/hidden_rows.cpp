#include "experts/hidden_rows.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/simd_level.h"

namespace hybrid {

uint64_t HiddenRows::bytes_of(InputForm form, uint64_t n_rows, uint64_t n_cols) {
  switch (form) {
    case InputForm::bytes:
      return n_rows * block_row_bytes(n_cols);
    case InputForm::tiles:
      return tiles_bytes(n_rows, n_cols);
    default:
      return n_rows * n_cols * sizeof(float);
  }
}

uint64_t HiddenRows::n_bytes(uint64_t n_rows, uint64_t n_cols) {
  return bytes_of(InputForm::floats, n_rows, n_cols) + n_rows * sizeof(ActivationBlock*);
}

void HiddenRows::reserve(uint64_t n_rows, uint64_t n_cols) {
  // Floats are the largest form: what is not written costs no memory.
  data_ = HugeBuffer(bytes_of(InputForm::floats, n_rows, n_cols));
  block_rows_.resize(n_rows);
}

void HiddenRows::set(InputForm form, uint64_t n_rows, uint64_t n_cols) {
  form_ = form;
  n_cols_ = n_cols;
  const uint64_t n = bytes_of(form, n_rows, n_cols);
  if (data_.n_bytes() < n) data_ = HugeBuffer(n);
  if (form != InputForm::bytes) return;
  if (block_rows_.size() < n_rows) block_rows_.resize(n_rows);
  for (uint64_t row = 0; row < n_rows; ++row) {
    block_rows_[row] = reinterpret_cast<const ActivationBlock*>(data_.data() +
                                                                row * block_row_bytes(n_cols));
  }
}

void HiddenRows::store(uint64_t row, uint64_t column, const float* values, uint64_t n) {
  HYBRID_CHECK(column % kCols == 0 && n <= kCols && column + n <= n_cols_);
  if (form_ == InputForm::floats) {
    std::copy_n(values, n, reinterpret_cast<float*>(data_.data()) + row * n_cols_ + column);
    return;
  }
  float padded[kCols] = {};
  if (n < kCols) {
    std::copy_n(values, n, padded);
    values = padded;
  }
  if (form_ == InputForm::bytes) {
    auto* block = const_cast<ActivationBlock*>(block_rows_[row]) + column / ActivationBlock::kCols;
    quantize_group(values, *block, static_cast<uint32_t>(column % ActivationBlock::kCols / kCols));
    return;
  }
#if defined(__x86_64__)
  store_tile_row(values, kCols, tile_row(data_.data(), n_cols_, row, column / kCols), 0);
#endif
}

}  // namespace hybrid
