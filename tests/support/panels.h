#pragma once
// Random matrices in panels, with the values they hold.

#include <cstdint>
#include <utility>
#include <vector>

#include "tensor/dequantize.h"
#include "tensor/panel.h"
#include "tests/support/aligned.h"
#include "tests/support/random_weights.h"

namespace hybrid::test {

struct PackedMatrix {
  DType type;
  uint64_t n_cols, n_rows;
  std::vector<std::byte> bytes;  // as in a file
  AlignedBytes panels;
  std::vector<int8_t> exponents;
  std::vector<float> values;  // [n_rows][n_cols]

  PackedMatrix(DType type_, uint64_t n_cols_, uint64_t n_rows_, uint32_t seed)
      : PackedMatrix(type_, n_cols_, n_rows_, random_weights(type_, n_cols_ * n_rows_, seed)) {}

  PackedMatrix(DType type_, uint64_t n_cols_, uint64_t n_rows_, std::vector<std::byte> file_bytes)
      : type(type_),
        n_cols(n_cols_),
        n_rows(n_rows_),
        bytes(std::move(file_bytes)),
        exponents((n_rows + 15) / 16),
        values(n_cols * n_rows) {
    const uint64_t size = panel_bytes(type, n_cols), row = row_bytes(type, n_cols);
    panels.resize(exponents.size() * size);
    for (uint64_t p = 0; p < exponents.size(); ++p) {
      const uint64_t n = std::min<uint64_t>(16, n_rows - 16 * p);
      exponents[p] =
          pack_panel(type, bytes.data() + 16 * p * row, n, n_cols, panels.data() + p * size);
    }
    dequantize(type, bytes.data(), values.data(), values.size());
  }

  PanelMatrix view() const { return {type, n_cols, n_rows, panels.data(), exponents.data()}; }
  TensorView tensor() const { return {type, {n_cols, n_rows, 1, 1}, bytes}; }
};

}  // namespace hybrid::test
