#include <algorithm>
#include <cmath>

#include "tensor/q8_0_row-inl.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

float max(const float* x, uint64_t n) { return *std::max_element(x, x + n); }

double exp_sum(float* x, uint64_t n, float max) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - max);
    sum += x[i];
  }
  return sum;
}

void silu_mul(float* gate, const float* up, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

double sum_of_squares(const float* x, uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

void scale(float* x, float factor, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] *= factor;
}

void scale_by(const float* x, float factor, const float* weight, float* y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) y[i] = x[i] * factor * weight[i];
}

void add(const float* x, float* y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) y[i] += x[i];
}

void rotate_pairs(float* x, const float* table, uint64_t n) {
  for (uint64_t i = 0; i < n; i += 2) {
    const float x0 = x[i], x1 = x[i + 1], c = table[i], s = table[i + 1];
    x[i] = x0 * c - x1 * s;
    x[i + 1] = x0 * s + x1 * c;
  }
}

void to_f16(const float* x, f16_t* y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) y[i] = f32_to_f16(x[i]);
}

}  // namespace

template <>
RowOps row_ops_at<SimdLevel::scalar>() {
  return {max,      exp_sum, silu_mul,     sum_of_squares, scale,
          scale_by, add,     rotate_pairs, to_f16,         internal::to_q8_0};
}

}  // namespace hybrid
