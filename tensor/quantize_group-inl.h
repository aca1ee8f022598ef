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

/// What rounding left of 16 floats, in 256ths of the scale.
inline int32_t round_rest(const float* x, float scale, float inverse, const int8_t* q,
                          int8_t* rest) {
  int32_t values[16];
  for (int i = 0; i < 16; ++i) {
    const float left = x[i] - scale * static_cast<float>(q[i]);
    const auto value = static_cast<int32_t>(round_to_integer(left * inverse * 256.0f));
    values[i] = value > 127 ? 127 : value < -127 ? -127 : value;
  }
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += values[i];
  for (int i = 0; i < 16; ++i) rest[i] = static_cast<int8_t>(values[i]);
  return sum;
}

inline void store_scale(ActivationBlock& block, uint32_t group, float scale,
                        const int32_t (&sums)[2]) {
  block.scale[group] = scale;
  block.sum32[group] = scale * static_cast<float>(sums[0] + sums[1]);
  block.sum16[2 * group] = scale * static_cast<float>(sums[0]);
  block.sum16[2 * group + 1] = scale * static_cast<float>(sums[1]);
}

/// Of a group with this largest magnitude.
struct GroupScale {
  bool finite;
  float scale, inverse;  // 0: all q are

  explicit GroupScale(uint32_t bits) : finite(bits < 0x7f800000u) {
    scale = (finite ? std::bit_cast<float>(bits) : 0.0f) / 127.0f;
    // Below this the inverse would overflow: such a group is zero beside anything else.
    if (scale < 1e-37f) scale = 0;
    inverse = scale > 0 ? 1.0f / scale : 0.0f;
  }
};

inline void group_to_bytes(const float* x, ActivationBlock& block, ActivationBlock* rest,
                           uint32_t group) {
  const auto [finite, scale, inverse] = GroupScale(largest_magnitude_bits(x));
  int8_t* q = block.q + 32 * group;
  int32_t sums[2] = {};
  if (scale > 0) {
    sums[0] = round_half(x, inverse, q);
    sums[1] = round_half(x + 16, inverse, q + 16);
  } else {
    std::memset(q, 0, 32);
  }
  store_scale(block, group, finite ? scale : NAN, sums);
  if (rest == nullptr) return;
  int8_t* r = rest->q + 32 * group;
  if (scale > 0) {
    sums[0] = 256 * sums[0] + round_rest(x, scale, inverse, q, r);
    sums[1] = 256 * sums[1] + round_rest(x + 16, scale, inverse, q + 16, r + 16);
  } else {
    std::memset(r, 0, 32);
  }
  store_scale(*rest, group, finite ? scale * 0x1p-8f : NAN, sums);
}

/// Of columns whose bytes and rest are group 0 of two blocks; to: their words.
inline void take_scale(const ActivationBlock& rest, ActivationBlock& to, uint32_t group) {
  to.scale[group] = rest.scale[0];
  to.sum32[group] = rest.sum32[0];
  for (uint32_t i = 0; i < 2; ++i) to.sum16[2 * group + i] = rest.sum16[i];
}

/// Where the words of a group lie.
inline ActivationBlock& block_of_words(ActivationBlock& first, ActivationBlock& second,
                                       uint32_t group) {
  return group < 4 ? first : second;
}

inline void group_to_words(const float* x, ActivationBlock& first, ActivationBlock& second,
                           uint32_t group) {
  ActivationBlock bytes, rest;
  group_to_bytes(x, bytes, &rest, 0);
  ActivationBlock& to = block_of_words(first, second, group);
  int16_t words[32];
  for (int i = 0; i < 32; ++i) {
    const int from = i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
    words[i] = static_cast<int16_t>(256 * bytes.q[from] + rest.q[from]);
  }
  std::memcpy(to.q + group % 4 * sizeof(words), words, sizeof(words));
  take_scale(rest, to, group);
}

}  // namespace
}  // namespace hybrid::internal
