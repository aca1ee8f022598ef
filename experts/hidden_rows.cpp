#include "experts/hidden_rows.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {

uint64_t HiddenRows::bytes_of(InputForm form, Precision precision, uint64_t n_rows,
                              uint64_t n_cols) {
  const auto n = static_cast<uint64_t>(n_parts(precision));
  switch (form) {
    case InputForm::bytes:
    case InputForm::words:
      return n * n_rows * block_row_bytes(n_cols);
    case InputForm::tiles:
      return n * tiles_bytes(n_rows, n_cols);
    default:
      return n_rows * n_cols * sizeof(float);
  }
}

uint64_t HiddenRows::most_bytes(uint64_t n_rows, uint64_t n_cols) {
  uint64_t n = 0;
  for (const InputForm form : {InputForm::bytes, InputForm::tiles, InputForm::floats}) {
    n = std::max(n, bytes_of(form, Precision::fine, n_rows, n_cols));
  }
  return n;
}

uint64_t HiddenRows::n_bytes(uint64_t n_rows, uint64_t n_cols) {
  return most_bytes(n_rows, n_cols) + 2 * n_rows * sizeof(ActivationBlock*);
}

void HiddenRows::reserve(uint64_t n_rows, uint64_t n_cols) {
  // Of the largest form: what is not written costs no memory.
  data_ = HugeBuffer(most_bytes(n_rows, n_cols));
  block_rows_.resize(2 * n_rows);
}

void HiddenRows::set(InputForm form, Precision precision, uint64_t n_rows, uint64_t n_cols) {
  form_ = form;
  precision_ = precision;
  n_rows_ = n_rows;
  n_cols_ = n_cols;
  const uint64_t n = bytes_of(form, precision, n_rows, n_cols);
  if (data_.n_bytes() < n) data_ = HugeBuffer(n);
  if (!is_in_blocks(form_)) return;
  const uint64_t n_blocks = n_rows * static_cast<uint64_t>(n_parts(precision));
  if (block_rows_.size() < n_blocks) block_rows_.resize(n_blocks);
  for (uint64_t i = 0; i < n_blocks; ++i) {
    block_rows_[i] =
        reinterpret_cast<const ActivationBlock*>(data_.data() + i * block_row_bytes(n_cols));
  }
}

void HiddenRows::store(uint64_t row, uint64_t column, const float* values, uint64_t n) {
  HYBRID_CHECK(column % step_cols() == 0 && column + n <= n_cols_);
  HYBRID_CHECK(n % step_cols() == 0 || column + n == n_cols_);
  if (form_ == InputForm::floats) {
    std::copy_n(values, n, reinterpret_cast<float*>(data_.data()) + row * n_cols_ + column);
  } else if (form_ == InputForm::words) {
    const uint64_t block = column / ActivationBlock::kCols;
    quantize_row_to_words(values, n, block_at(2 * row, block), block_at(2 * row + 1, block));
  } else {
    for (uint64_t i = 0; i < n; i += kGroupCols) {
      store_group(row, column + i, values + i, std::min(kGroupCols, n - i));
    }
  }
}

void HiddenRows::store_group(uint64_t row, uint64_t column, const float* values, uint64_t n) {
  float padded[kGroupCols] = {};
  if (n < kGroupCols) {
    std::copy_n(values, n, padded);
    values = padded;
  }
  if (form_ == InputForm::bytes) {
    const uint64_t block = column / ActivationBlock::kCols;
    const auto group = static_cast<uint32_t>(column % ActivationBlock::kCols / kGroupCols);
    if (precision_ != Precision::normal) {
      quantize_group(values, *block_at(2 * row, block), block_at(2 * row + 1, block), group);
    } else {
      quantize_group(values, *block_at(row, block), nullptr, group);
    }
    return;
  }
#if defined(__x86_64__)
  std::byte* to = tile_row(data_.data(), n_cols_, row, column / kGroupCols);
  store_tile_row(values, kGroupCols, to, 0);
  if (precision_ != Precision::normal) {
    store_tile_rest(values, kGroupCols, to + tiles_bytes(n_rows_, n_cols_), 0);
  }
#endif
}

}  // namespace hybrid
