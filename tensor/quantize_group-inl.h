#pragma once
// The body at every level: plain loops of a fixed length that the compiler turns into vectors.

#include <cmath>

#include "tensor/quantize_group.h"

namespace hybrid::internal {
namespace {

/// Adding 1.5 * 2^23 rounds to the nearest integer, halves to even, for |x| < 2^22.
inline float round_to_integer(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

inline void quantize_group(const float* x, ActivationBlock& block, uint32_t group) {
  float largest = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    const float magnitude = std::fabs(x[i]);
    finite &= magnitude <= 3.402823466e38f;
    largest = magnitude > largest ? magnitude : largest;
  }
  float scale = largest / 127.0f;
  // Below this the inverse would overflow: such a group is zero beside anything else.
  const bool tiny = scale < 1e-37f;
  const float inverse = tiny ? 0.0f : 1.0f / scale;
  if (tiny) scale = 0;
  if (!finite) scale = NAN;
  int8_t* q = block.q + 32 * group;
  int32_t sums[2] = {};
  for (int half = 0; half < 2; ++half) {
    int32_t sum = 0;
    for (int i = 16 * half; i < 16 * half + 16; ++i) {
      const float clean = finite ? x[i] * inverse : 0.0f;
      const auto value = static_cast<int32_t>(round_to_integer(clean));
      q[i] = static_cast<int8_t>(value);
      sum += value;
    }
    sums[half] = sum;
  }
  block.scale[group] = scale;
  block.sum32[group] = scale * static_cast<float>(sums[0] + sums[1]);
  block.sum16[2 * group] = scale * static_cast<float>(sums[0]);
  block.sum16[2 * group + 1] = scale * static_cast<float>(sums[1]);
}

}  // namespace
}  // namespace hybrid::internal
