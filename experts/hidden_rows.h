#pragma once
// The hidden rows between the two halves of a feed-forward net, kept in the form that the down
// projection takes.

#include <cstdint>
#include <vector>

#include "numa/huge_buffer.h"
#include "tensor/matmul_input.h"

namespace hybrid {

class HiddenRows {
 public:
  static constexpr uint64_t kGroupCols = 32;

  /// Bytes that rows of any form take at most; reserve() takes them, held_bytes() are there.
  static uint64_t n_bytes(uint64_t n_rows, uint64_t n_cols);
  void reserve(uint64_t n_rows, uint64_t n_cols);
  uint64_t held_bytes() const {
    return data_.n_bytes() + block_rows_.capacity() * sizeof(block_rows_[0]);
  }

  /// From now on n_rows rows of n_cols columns in this form.
  void set(InputForm form, Precision precision, uint64_t n_rows, uint64_t n_cols);

  /// Columns that share a scale, and are stored together.
  uint64_t step_cols() const {
    return form_ == InputForm::words ? ActivationBlock::kCols : kGroupCols;
  }
  /// Columns [column, column + n) of a row; column a multiple of step_cols(), n, too, or up to the
  /// end of the row. Different rows and columns may be stored by different threads at a time.
  void store(uint64_t row, uint64_t column, const float* values, uint64_t n);

  // By form:
  const float* floats(uint64_t row) const {
    return reinterpret_cast<const float*>(data_.data()) + row * n_cols_;
  }
  ByteRows blocks(uint64_t row, uint64_t n) const {
    return ByteRows{block_rows_.data(), n_parts(precision_), 0, form_ == InputForm::words}.part(row,
                                                                                                n);
  }
  /// Row 16 * i on begins a tile.
  std::byte* tiles(uint64_t row) { return tile_row(data_.data(), n_cols_, row, 0); }
  /// Where the second parts lie; null at normal precision.
  std::byte* rest(uint64_t row) {
    return precision_ != Precision::normal ? tiles(row) + tiles_bytes(n_rows_, n_cols_) : nullptr;
  }

 private:
  void store_group(uint64_t row, uint64_t column, const float* values, uint64_t n);
  ActivationBlock* block_at(uint64_t i, uint64_t block) {
    return const_cast<ActivationBlock*>(block_rows_[i]) + block;
  }
  static uint64_t most_bytes(uint64_t n_rows, uint64_t n_cols);
  static uint64_t bytes_of(InputForm form, Precision precision, uint64_t n_rows, uint64_t n_cols);

  InputForm form_ = InputForm::floats;
  Precision precision_ = Precision::normal;
  uint64_t n_rows_ = 0, n_cols_ = 0;
  HugeBuffer data_;
  std::vector<const ActivationBlock*> block_rows_;  // [row][part]
};

}  // namespace hybrid
