#pragma once
// RMS normalisation.

#include <cstdint>
#include <span>

namespace hybrid {

/// y[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i], one row of weight.size() floats.
/// x and y may be the same row. The sum is accumulated in double.
void rms_norm(const float* x, std::span<const float> weight, float epsilon, float* y);

}  // namespace hybrid
