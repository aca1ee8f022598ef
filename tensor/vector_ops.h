#pragma once
// Sums over vectors of floats, in an order that is part of the contract.

#include <cstdint>

namespace hybrid {

/// sum of a[i] * b[i], i < n, in float, never fused. Element i goes to lane i % 8. The lanes are
/// summed over 256 elements at a time (the last n % 8 by themselves) and those sums added to 8
/// totals, which are added pairwise at the end: the rounding error grows with sqrt(32 + n / 256)
/// instead of sqrt(n). matmul takes its sums in the same order.
float dot_f32(const float* a, const float* b, uint64_t n);

/// y[i] += alpha * x[i], i < n, never fused. x and y do not overlap.
void axpy_f32(float alpha, const float* x, float* y, uint64_t n);

}  // namespace hybrid
