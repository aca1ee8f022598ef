#pragma once
// A look at a tensor's bytes. Owns nothing: the bytes live in a mapped file or an arena.

#include <array>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace hybrid {

/// Up to four dimensions in GGUF's order: ne[0] is the contiguous one (the input dimension of a
/// weight matrix), ne[1] counts rows, ne[2] matrices (experts). Unused dimensions are 1.
/// Rows follow each other without gaps: row r begins at r * row_bytes().
struct TensorView {
  DType type = DType::f32;
  std::array<uint64_t, 4> ne{1, 1, 1, 1};
  std::span<const std::byte> data;

  uint64_t n_cols() const { return ne[0]; }
  uint64_t n_rows() const { return ne[1] * ne[2] * ne[3]; }
  uint64_t n_elements() const { return n_cols() * n_rows(); }
  uint64_t row_bytes() const { return hybrid::row_bytes(type, ne[0]); }
  bool empty() const { return data.empty(); }

  const std::byte* row(uint64_t r) const { return data.data() + r * row_bytes(); }

  /// Matrix i of a stack along ne[2] (the weights of expert i): shape {ne[0], ne[1]}.
  TensorView slice(uint64_t i) const {
    const uint64_t n_bytes = ne[1] * row_bytes();
    return {type, {ne[0], ne[1], 1, 1}, data.subspan(i * n_bytes, n_bytes)};
  }

  /// n rows from `first` on, as a matrix of their own.
  TensorView rows(uint64_t first, uint64_t n) const {
    return {type, {ne[0], n, 1, 1}, data.subspan(first * row_bytes(), n * row_bytes())};
  }
};

}  // namespace hybrid
