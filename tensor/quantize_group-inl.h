#pragma once
// The body at every level: plain loops of a fixed length that the compiler turns into vectors.

#include <bit>
#include <cmath>
#include <cstring>

#include "tensor/quantize_group.h"

namespace hybrid::internal {
namespace {

/// Adding 1.5 * 2^23 rounds to the nearest integer, halves to even, for |x| < 2^22.
inline float round_to_integer(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

/// The largest magnitude of 32 floats, by their bits: integers can be compared in any order, so
/// this becomes a few vector operations. NaN counts as larger than anything.
inline uint32_t largest_magnitude_bits(const float* x) {
  uint32_t bits[32];
  std::memcpy(bits, x, sizeof(bits));
  uint32_t largest = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t magnitude = bits[i] & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

/// q[i] = x[i] * inverse, rounded; returns their sum.
inline int32_t round_half(const float* x, float inverse, int8_t* q) {
  int32_t values[16];
  for (int i = 0; i < 16; ++i) values[i] = static_cast<int32_t>(round_to_integer(x[i] * inverse));
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += values[i];
  for (int i = 0; i < 16; ++i) q[i] = static_cast<int8_t>(values[i]);
  return sum;
}

inline void quantize_group(const float* x, ActivationBlock& block, uint32_t group) {
  const uint32_t bits = largest_magnitude_bits(x);
  const bool finite = bits < 0x7f800000u;
  float scale = (finite ? std::bit_cast<float>(bits) : 0.0f) / 127.0f;
  // Below this the inverse would overflow: such a group is zero beside anything else.
  if (scale < 1e-37f) scale = 0;
  int8_t* q = block.q + 32 * group;
  int32_t sums[2] = {};
  if (scale > 0) {
    const float inverse = 1.0f / scale;
    sums[0] = round_half(x, inverse, q);
    sums[1] = round_half(x + 16, inverse, q + 16);
  } else {
    std::memset(q, 0, 32);
  }
  if (!finite) scale = NAN;
  block.scale[group] = scale;
  block.sum32[group] = scale * static_cast<float>(sums[0] + sums[1]);
  block.sum16[2 * group] = scale * static_cast<float>(sums[0]);
  block.sum16[2 * group + 1] = scale * static_cast<float>(sums[1]);
}

}  // namespace
}  // namespace hybrid::internal
