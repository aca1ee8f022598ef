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

/// Of a group with this largest magnitude, which becomes the integer `most`.
struct GroupScale {
  bool finite;
  float scale, inverse;  // 0: all q are

  explicit GroupScale(uint32_t bits, int most = 127) : finite(bits < 0x7f800000u) {
    scale = (finite ? std::bit_cast<float>(bits) : 0.0f) / static_cast<float>(most);
    // Below this the inverse would overflow: such a group is zero beside anything else.
    if (scale < 1e-37f) scale = 0;
    inverse = scale > 0 ? 1.0f / scale : 0.0f;
  }
};

/// What the largest magnitude of a group may become, and the squares of these relative to 127.
/// Where 32 values fall between integers differs from one scale to the next; of eight the best has
/// 16 % less of squared error than the first (Gaussian values), of sixteen 19 %.
inline constexpr int kScaleTrials = 8;
inline constexpr float kTrialLargest[kScaleTrials] = {127.0f, 127.45f, 126.5f, 126.0f,
                                                      125.5f, 125.0f,  124.5f, 124.0f};
/// A value between integers is measured in 32nds, so that all levels sum the same integers.
inline constexpr int kTrialSteps = 32;

/// The scale of the trial whose squared errors, in kTrialSteps-ths of each one's scale, are these.
inline GroupScale best_trial(GroupScale first, const int32_t (&errors)[kScaleTrials]) {
  GroupScale best = first;
  float least = INFINITY;
  for (int i = 0; i < kScaleTrials; ++i) {
    const float wider = 127.0f / kTrialLargest[i];
    const float error = static_cast<float>(errors[i]) * (wider * wider);
    if (error >= least) continue;
    least = error;
    best.scale = first.scale * wider;
    best.inverse = first.inverse * (kTrialLargest[i] / 127.0f);
  }
  return best;
}

inline GroupScale best_scale(const float* x, GroupScale first) {
  int32_t errors[kScaleTrials];
  for (int trial = 0; trial < kScaleTrials; ++trial) {
    const float factor = first.inverse * (kTrialLargest[trial] / 127.0f * kTrialSteps);
    int32_t sum = 0;
    for (int i = 0; i < 32; ++i) {
      const auto value = static_cast<int32_t>(round_to_integer(x[i] * factor));
      const int32_t left = ((value + kTrialSteps / 2) & (kTrialSteps - 1)) - kTrialSteps / 2;
      sum += left * left;
    }
    errors[trial] = sum;
  }
  return best_trial(first, errors);
}

inline void group_to_bytes(const float* x, ActivationBlock& block, ActivationBlock* rest,
                           uint32_t group) {
  GroupScale of(largest_magnitude_bits(x));
  if (rest == nullptr && of.scale > 0) of = best_scale(x, of);
  const auto [finite, scale, inverse] = of;
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

/// Of 256 columns as words.
struct WordScale : GroupScale {
  explicit WordScale(uint32_t bits) : GroupScale(bits, kMaxActivationWord) {}

  void store(ActivationBlock& first, ActivationBlock& second) const {
    first.scale[0] = second.scale[0] = finite ? scale : NAN;
  }
};

inline void block_to_words(const float* x, ActivationBlock& first, ActivationBlock& second) {
  uint32_t bits = 0;
  for (uint64_t i = 0; i < ActivationBlock::kCols; i += 32) {
    const uint32_t other = largest_magnitude_bits(x + i);
    bits = other > bits ? other : bits;
  }
  const WordScale of(bits);
  of.store(first, second);
  for (ActivationBlock* half : {&first, &second}) {
    int16_t words[ActivationBlock::kCols / 2] = {};
    for (int i = 0; i < 128 && of.scale > 0; i += 4) {
      for (int k = 0; k < 4; ++k) {
        const int to = k == 1 ? 2 : k == 2 ? 1 : k;
        words[i + to] = static_cast<int16_t>(round_to_integer(x[i + k] * of.inverse));
      }
    }
    std::memcpy(half->q, words, sizeof(words));
    x += ActivationBlock::kCols / 2;
  }
}

}  // namespace
}  // namespace hybrid::internal
