#pragma once
// Bodies of RowProducts at every level, compiled by row_products_<level>.cpp.

#include "tensor/dot_tile-inl.h"
#include "tensor/row_products.h"

namespace hybrid::internal {
namespace {

/// The tile for two or more tokens, and for one: as many sums as fit the level's registers.
template <SimdLevel L>
struct TileShape;
template <>
struct TileShape<SimdLevel::scalar> {
  static constexpr int kRows = 2, kTokens = 2, kRowsOfOne = 4;
};
template <>
struct TileShape<SimdLevel::avx2> {
  static constexpr int kRows = 4, kTokens = 2, kRowsOfOne = 8;
};
template <>
struct TileShape<SimdLevel::avx512_vnni> {
  static constexpr int kRows = 4, kTokens = 4, kRowsOfOne = 8;
};

/// n_rows decoded rows times T tokens.
template <SimdLevel L, int R, int T>
void tiles_of_rows(Rows w, uint64_t n_rows, Rows x, uint64_t n_cols, float* y, uint64_t y_stride) {
  uint64_t r = 0;
  for (; r + R <= n_rows; r += R) {
    dot_tile<L, R, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
  for (; r < n_rows; ++r) {
    dot_tile<L, 1, T>({w.data + r * w.stride, w.stride}, x, n_cols, y + r, y_stride);
  }
}

/// y[t * y_stride + r] = dot product of rows r of w and t of x, all of n floats.
template <SimdLevel L>
void dots_of_rows(Rows w, uint64_t n_rows, Rows x, uint64_t n_x, uint64_t n, float* y,
                  uint64_t y_stride) {
  using Tile = TileShape<L>;
  uint64_t t = 0;
  for (; t + Tile::kTokens <= n_x; t += Tile::kTokens) {
    const Rows xs{x.data + t * x.stride, x.stride};
    tiles_of_rows<L, Tile::kRows, Tile::kTokens>(w, n_rows, xs, n, y + t * y_stride, y_stride);
  }
  for (; t < n_x; ++t) {
    const Rows xs{x.data + t * x.stride, x.stride};
    tiles_of_rows<L, Tile::kRowsOfOne, 1>(w, n_rows, xs, n, y + t * y_stride, y_stride);
  }
}

/// The tile of weighted sums: rows of y and vectors of each.
template <SimdLevel L>
struct SumTile;
template <>
struct SumTile<SimdLevel::scalar> {
  static constexpr int kRows = 2, kVectors = 2;
};
template <>
struct SumTile<SimdLevel::avx2> {
  static constexpr int kRows = 4, kVectors = 2;
};
template <>
struct SumTile<SimdLevel::avx512_vnni> {
  static constexpr int kRows = 4, kVectors = 4;
};

/// y[t] += sum over r of a[t][r] * w[r] for T rows and V vectors of columns.
template <SimdLevel L, int T, int V>
void weighted_tile(Rows a, Rows w, uint64_t n_rows, float* y, uint64_t y_stride) {
  using Simd = SimdFloat<L>;
  constexpr uint64_t kWidth = sizeof(typename Simd::Vector) / sizeof(float);
  typename Simd::Vector sums[T][V];
  for (int t = 0; t < T; ++t) {
    for (int v = 0; v < V; ++v) sums[t][v] = Simd::load(y + t * y_stride + v * kWidth);
  }
  for (uint64_t r = 0; r < n_rows; ++r) {
    typename Simd::Vector ws[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) ws[v] = Simd::load(w.data + r * w.stride + v * kWidth);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const auto as = Simd::broadcast(a.data[t * a.stride + r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[t][v] = Simd::multiply_add(as, ws[v], sums[t][v]);
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int v = 0; v < V; ++v) Simd::store(y + t * y_stride + v * kWidth, sums[t][v]);
  }
}

template <SimdLevel L, int V>
void weighted_columns(Rows a, uint64_t n_y, Rows w, uint64_t n_rows, float* y, uint64_t y_stride) {
  constexpr int kRows = SumTile<L>::kRows;
  uint64_t t = 0;
  for (; t + kRows <= n_y; t += kRows) {
    weighted_tile<L, kRows, V>({a.data + t * a.stride, a.stride}, w, n_rows, y + t * y_stride,
                               y_stride);
  }
  for (; t < n_y; ++t) {
    weighted_tile<L, 1, V>({a.data + t * a.stride, a.stride}, w, n_rows, y + t * y_stride,
                           y_stride);
  }
}

/// y[t] += sum over r of a[t][r] * w[r], r upwards, rows of n floats.
template <SimdLevel L>
void weighted_rows(Rows a, uint64_t n_y, Rows w, uint64_t n_rows, uint64_t n, float* y,
                   uint64_t y_stride) {
  constexpr uint64_t kWidth = sizeof(typename SimdFloat<L>::Vector) / sizeof(float);
  constexpr uint64_t kTile = kWidth * SumTile<L>::kVectors;
  uint64_t c = 0;
  for (; c + kTile <= n; c += kTile) {
    weighted_columns<L, SumTile<L>::kVectors>(a, n_y, {w.data + c, w.stride}, n_rows, y + c,
                                              y_stride);
  }
  for (; c + kWidth <= n; c += kWidth) {
    weighted_columns<L, 1>(a, n_y, {w.data + c, w.stride}, n_rows, y + c, y_stride);
  }
  for (; c < n; ++c) {
    for (uint64_t t = 0; t < n_y; ++t) {
      float sum = y[t * y_stride + c];
      for (uint64_t r = 0; r < n_rows; ++r)
        sum += a.data[t * a.stride + r] * w.data[r * w.stride + c];
      y[t * y_stride + c] = sum;
    }
  }
}

template <SimdLevel L>
RowProducts row_products() {
  return {[](FloatRows w, uint64_t n_rows, FloatRows x, uint64_t n_x, uint64_t n, float* y,
             uint64_t y_stride) { dots_of_rows<L>(w, n_rows, x, n_x, n, y, y_stride); },
          [](FloatRows a, uint64_t n_y, FloatRows w, uint64_t n_rows, uint64_t n, float* y,
             uint64_t y_stride) { weighted_rows<L>(a, n_y, w, n_rows, n, y, y_stride); }};
}

}  // namespace
}  // namespace hybrid::internal
