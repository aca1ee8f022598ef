#pragma once
// Bodies of RowOps at the wide levels, compiled by row_ops_<level>.cpp.

#include "tensor/q8_0_row-inl.h"
#include "tensor/row_ops.h"
#include "tensor/simd_row-inl.h"

namespace hybrid::internal {
namespace {

template <SimdLevel L>
constexpr uint64_t kRowWidth = sizeof(typename SimdFloat<L>::Vector) / sizeof(float);

/// x[i] = f(x[i]) by whole vectors; the last part goes through the same f.
template <SimdLevel L, class F>
void transform(float* x, uint64_t n, const F& f) {
  uint64_t i = 0;
  for (; i + kRowWidth<L> <= n; i += kRowWidth<L>) {
    SimdFloat<L>::store(x + i, f(SimdFloat<L>::load(x + i)));
  }
  if (i < n) SimdRow<L>::store_part(x + i, f(SimdRow<L>::load_part(x + i, n - i)), n - i);
}

/// y[i] = f(x[i], z[i]); y may be x or z.
template <SimdLevel L, class F>
void transform(const float* x, const float* z, float* y, uint64_t n, const F& f) {
  uint64_t i = 0;
  for (; i + kRowWidth<L> <= n; i += kRowWidth<L>) {
    SimdFloat<L>::store(y + i, f(SimdFloat<L>::load(x + i), SimdFloat<L>::load(z + i)));
  }
  if (i < n) {
    const auto last = f(SimdRow<L>::load_part(x + i, n - i), SimdRow<L>::load_part(z + i, n - i));
    SimdRow<L>::store_part(y + i, last, n - i);
  }
}

/// Halves are brought together by f until one lane is left.
template <class Lane, class Vector, class F>
Lane reduce_lanes(Vector v, const F& f) {
  constexpr uint64_t kLanes = sizeof(Vector) / sizeof(Lane);
  Lane lanes[kLanes];
  std::memcpy(lanes, &v, sizeof(v));
  for (uint64_t n = kLanes / 2; n > 0; n /= 2) {
    for (uint64_t i = 0; i < n; ++i) lanes[i] = f(lanes[i], lanes[i + n]);
  }
  return lanes[0];
}

template <class Lane, class Vector>
Lane add_lanes(Vector v) {
  return reduce_lanes<Lane>(v, [](Lane a, Lane b) { return a + b; });
}

template <SimdLevel L>
float max(const float* x, uint64_t n) {
  auto most = SimdFloat<L>::broadcast(x[0]);
  uint64_t i = 0;
  for (; i + kRowWidth<L> <= n; i += kRowWidth<L>) {
    most = SimdRow<L>::max(most, SimdFloat<L>::load(x + i));
  }
  const auto larger = [](float a, float b) { return b > a ? b : a; };
  float result = reduce_lanes<float>(most, larger);
  for (; i < n; ++i) result = larger(result, x[i]);
  return result;
}

/// Lanes are summed in float over 256 elements at a time, and those sums in double.
template <SimdLevel L>
double exp_sum(float* x, uint64_t n, float max) {
  constexpr uint64_t kChunk = 256;
  const auto shift = SimdFloat<L>::broadcast(max);
  double total = 0;
  for (uint64_t begin = 0; begin < n; begin += kChunk) {
    float* chunk = x + begin;
    const uint64_t n_chunk = n - begin < kChunk ? n - begin : kChunk;
    typename SimdFloat<L>::Vector sum = {};
    uint64_t i = 0;
    for (; i + kRowWidth<L> <= n_chunk; i += kRowWidth<L>) {
      const auto y = exp<L>(SimdFloat<L>::load(chunk + i) - shift);
      SimdFloat<L>::store(chunk + i, y);
      sum += y;
    }
    if (const uint64_t n_last = n_chunk - i; n_last > 0) {
      const auto y = exp<L>(SimdRow<L>::load_part(chunk + i, n_last) - shift);
      SimdRow<L>::store_part(chunk + i, y, n_last);
      sum += SimdRow<L>::load_part(chunk + i, n_last);
    }
    total += add_lanes<float>(sum);
  }
  return total;
}

template <SimdLevel L>
void silu_mul(float* gate, const float* up, uint64_t n) {
  transform<L>(gate, up, gate, n, [](auto g, auto u) { return silu_mul_lanes<L>(g, u); });
}

template <SimdLevel L>
double sum_of_squares(const float* x, uint64_t n) {
  using Row = SimdRow<L>;
  typename Row::Doubles low = {}, high = {};
  const auto add = [&](typename Row::Vector v) {
    const typename Row::Doubles l = Row::low_doubles(v), h = Row::high_doubles(v);
    low += l * l;
    high += h * h;
  };
  uint64_t i = 0;
  for (; i + kRowWidth<L> <= n; i += kRowWidth<L>) add(SimdFloat<L>::load(x + i));
  if (i < n) add(Row::load_part(x + i, n - i));
  return add_lanes<double>(low + high);
}

template <SimdLevel L>
void scale(float* x, float factor, uint64_t n) {
  const auto f = SimdFloat<L>::broadcast(factor);
  transform<L>(x, n, [&](auto v) { return v * f; });
}

template <SimdLevel L>
void scale_by(const float* x, float factor, const float* weight, float* y, uint64_t n) {
  const auto f = SimdFloat<L>::broadcast(factor);
  transform<L>(x, weight, y, n, [&](auto v, auto w) { return v * f * w; });
}

template <SimdLevel L>
void add(const float* x, float* y, uint64_t n) {
  transform<L>(x, y, y, n, [](auto a, auto b) { return b + a; });
}

template <SimdLevel L>
void rotate_pairs(float* x, const float* table, uint64_t n) {
  transform<L>(x, table, x, n, [](auto v, auto t) { return SimdRow<L>::rotate_pairs(v, t); });
}

template <SimdLevel L>
void to_f16(const float* x, f16_t* y, uint64_t n) {
  uint64_t i = 0;
  for (; i + kRowWidth<L> <= n; i += kRowWidth<L>) {
    SimdRow<L>::store_f16(y + i, SimdFloat<L>::load(x + i));
  }
  if (i < n) {
    f16_t last[kRowWidth<L>];
    SimdRow<L>::store_f16(last, SimdRow<L>::load_part(x + i, n - i));
    std::memcpy(y + i, last, (n - i) * sizeof(f16_t));
  }
}

template <SimdLevel L>
RowOps row_ops() {
  return {max<L>,      exp_sum<L>, silu_mul<L>,     sum_of_squares<L>, scale<L>,
          scale_by<L>, add<L>,     rotate_pairs<L>, to_f16<L>,         to_q8_0};
}

}  // namespace
}  // namespace hybrid::internal
