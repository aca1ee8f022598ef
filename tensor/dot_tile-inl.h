#pragma once
// Dot products of R weight rows with T token rows at once. Each of the R * T sums is taken in the
// order that dot_f32 promises, whatever R and T: a tile only shares loads.

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace hybrid::internal {

/// One SSE register; on other machines the compiler lowers it to what they have.
using Float4 = float __attribute__((vector_size(16)));

/// The 8 sums of one dot product.
using Lanes = Float4[2];
inline constexpr uint64_t kLanes = 8;
inline constexpr uint64_t kDotChunk = 256;  // elements per partial sum; a multiple of kLanes

/// Rows of floats at a distance of `stride`.
struct Rows {
  const float* data;
  uint64_t stride;
};

inline Float4 load4(const float* p) {
  Float4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

inline float add_pairwise(const Lanes& lanes) {
  const Float4 v = lanes[0] + lanes[1];
  return (v[0] + v[2]) + (v[1] + v[3]);
}

/// totals += the sums over columns [begin, begin + n); n is a multiple of kLanes.
template <int R, int T>
inline void add_chunk(Rows w, Rows x, uint64_t begin, uint64_t n, Lanes (&totals)[R][T]) {
  Lanes sums[R][T] = {};
  for (uint64_t c = begin; c < begin + n; c += kLanes) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      Float4 xs[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) xs[t] = load4(x.data + t * x.stride + c + 4 * h);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Float4 ws = load4(w.data + r * w.stride + c + 4 * h);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sums[r][t][h] += ws * xs[t];
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      for (int h = 0; h < 2; ++h) totals[r][t][h] += sums[r][t][h];
    }
  }
}

/// n rows of fewer than kLanes floats, filled up with zeros.
template <int n_rows>
struct PaddedRows {
  float data[n_rows][kLanes] = {};

  PaddedRows(Rows rows, uint64_t begin, uint64_t n) {
    for (int i = 0; i < n_rows; ++i) {
      std::memcpy(data[i], rows.data + i * rows.stride + begin, n * sizeof(float));
    }
  }
  Rows rows() const { return {data[0], kLanes}; }
};

/// y[t * y_stride + r] = dot product of row r of w and row t of x, both of n floats.
template <int R, int T>
void dot_tile(Rows w, Rows x, uint64_t n, float* y, uint64_t y_stride) {
  Lanes totals[R][T] = {};
  const uint64_t n_whole = n / kLanes * kLanes;
  for (uint64_t c = 0; c < n_whole; c += kDotChunk) {
    add_chunk<R, T>(w, x, c, std::min(kDotChunk, n_whole - c), totals);
  }
  if (n_whole < n) {
    const PaddedRows<R> w_tail(w, n_whole, n - n_whole);
    const PaddedRows<T> x_tail(x, n_whole, n - n_whole);
    add_chunk<R, T>(w_tail.rows(), x_tail.rows(), 0, kLanes, totals);
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) y[t * y_stride + r] = add_pairwise(totals[r][t]);
  }
}

}  // namespace hybrid::internal
