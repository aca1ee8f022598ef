#pragma once
// A matrix, or a stack of them, as Weight: in the file's rows alone, and with panels beside them.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tensor/dequantize.h"
#include "tensor/weight.h"
#include "tests/support/aligned.h"
#include "tests/support/random_weights.h"

namespace hybrid::test {

class WeightStack {
 public:
  /// The matrices' rows as in a file.
  WeightStack(DType type, uint64_t n_cols, uint64_t n_rows, uint64_t n_matrices,
              std::vector<std::byte> bytes)
      : bytes_(std::move(bytes)),
        unpacked_{{type, {n_cols, n_rows, n_matrices, 1}, bytes_}},
        panels_(packed_bytes(unpacked_)),
        exponents_(packed_panels(unpacked_)),
        values_(n_cols * n_rows * n_matrices) {
    dequantize(type, bytes_.data(), values_.data(), values_.size());
    const uint64_t size = panel_bytes(type, n_cols), per_matrix = unpacked_.n_panels();
    for (uint64_t p = 0; p < exponents_.size(); ++p) {
      const uint64_t first = p % per_matrix * kPanelRows;
      exponents_[p] =
          pack_panel(type, unpacked_.rows.row(p / per_matrix * n_rows + first),
                     std::min(kPanelRows, n_rows - first), n_cols, panels_.data() + p * size);
    }
  }
  WeightStack(const WeightStack&) = delete;
  WeightStack& operator=(const WeightStack&) = delete;

  Weight unpacked() const { return unpacked_; }
  Weight packed() const {
    Weight w = unpacked_;
    w.panels = panels_.data();
    w.exponents = exponents_.data();
    return w;
  }
  /// The decoded row r of matrix i.
  const float* row(uint64_t i, uint64_t r) const {
    return values_.data() + (i * unpacked_.n_rows() + r) * unpacked_.n_cols();
  }

 private:
  std::vector<std::byte> bytes_;
  Weight unpacked_;
  AlignedBytes panels_;
  std::vector<int8_t> exponents_;
  std::vector<float> values_;
};

}  // namespace hybrid::test
