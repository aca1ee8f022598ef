#pragma once
// Dot products of R weight rows with T token rows at once. Each of the R * T sums is taken in the
// order that VectorOps::dot promises for the level, whatever R and T: a tile only shares loads.

#include <cstdint>
#include <cstring>

#include "tensor/row_products.h"
#include "tensor/simd_float-inl.h"

namespace hybrid::internal {
namespace {

/// Two vectors of sums at the scalar level, where tiles are small; one at the wider ones.
template <SimdLevel L>
constexpr int kVectorsPerSum = L == SimdLevel::scalar ? 2 : 1;

template <SimdLevel L>
constexpr uint64_t kLanes = kVectorsPerSum<L> * sizeof(typename SimdFloat<L>::Vector) /
                            sizeof(float);

constexpr uint64_t kDotChunk = 256;  // elements per partial sum; a multiple of all kLanes

using Rows = FloatRows;

/// The sums of one dot product.
template <SimdLevel L>
struct LaneSums {
  typename SimdFloat<L>::Vector v[kVectorsPerSum<L>] = {};
};

/// Halves are added until one number is left.
template <SimdLevel L>
float add_pairwise(const LaneSums<L>& sums) {
  float lanes[kLanes<L>];
  std::memcpy(lanes, sums.v, sizeof(lanes));
  for (uint64_t n = kLanes<L> / 2; n > 0; n /= 2) {
    for (uint64_t i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  }
  return lanes[0];
}

/// totals += the sums over columns [begin, begin + n); n is a multiple of kLanes.
template <SimdLevel L, int R, int T>
void add_chunk(Rows w, Rows x, uint64_t begin, uint64_t n, LaneSums<L> (&totals)[R][T]) {
  using Simd = SimdFloat<L>;
  constexpr int kVectors = kVectorsPerSum<L>;
  constexpr uint64_t kWidth = kLanes<L> / kVectors;
  LaneSums<L> sums[R][T];
  for (uint64_t c = begin; c < begin + n; c += kLanes<L>) {
#pragma GCC unroll 2
    for (int h = 0; h < kVectors; ++h) {
      typename Simd::Vector xs[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) xs[t] = Simd::load(x.data + t * x.stride + c + kWidth * h);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const auto ws = Simd::load(w.data + r * w.stride + c + kWidth * h);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          sums[r][t].v[h] = Simd::multiply_add(ws, xs[t], sums[r][t].v[h]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      for (int h = 0; h < kVectors; ++h) totals[r][t].v[h] += sums[r][t].v[h];
    }
  }
}

/// n rows of fewer than kLanes floats, filled up with zeros.
template <SimdLevel L, int n_rows>
struct PaddedRows {
  float data[n_rows][kLanes<L>] = {};

  PaddedRows(Rows rows, uint64_t begin, uint64_t n) {
    for (int i = 0; i < n_rows; ++i) {
      std::memcpy(data[i], rows.data + i * rows.stride + begin, n * sizeof(float));
    }
  }
  Rows rows() const { return {data[0], kLanes<L>}; }
};

/// y[t * y_stride + r] = dot product of row r of w and row t of x, both of n floats.
template <SimdLevel L, int R, int T>
void dot_tile(Rows w, Rows x, uint64_t n, float* y, uint64_t y_stride) {
  LaneSums<L> totals[R][T];
  const uint64_t n_whole = n / kLanes<L> * kLanes<L>;
  for (uint64_t c = 0; c < n_whole; c += kDotChunk) {
    const uint64_t left = n_whole - c;
    add_chunk<L, R, T>(w, x, c, left < kDotChunk ? left : kDotChunk, totals);
  }
  if (n_whole < n) {
    const PaddedRows<L, R> w_tail(w, n_whole, n - n_whole);
    const PaddedRows<L, T> x_tail(x, n_whole, n - n_whole);
    add_chunk<L, R, T>(w_tail.rows(), x_tail.rows(), 0, kLanes<L>, totals);
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) y[t * y_stride + r] = add_pairwise(totals[r][t]);
  }
}

}  // namespace
}  // namespace hybrid::internal
