#pragma once
// RowOps::to_q8_0 at every level: loops that the compiler makes vectors of.

#include <cstring>

#include "tensor/row_ops.h"

namespace hybrid::internal {
namespace {

/// |x| as bits, which are in the order of the numbers; those of NaN are the largest.
inline uint32_t magnitude_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits & 0x7fffffff;
}

inline void block_to_q8_0(const float* x, BlockQ8_0& block) {
  uint32_t most = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t bits = magnitude_bits(x[i]);
    most = bits > most ? bits : most;
  }
  float max;
  std::memcpy(&max, &most, sizeof(max));
  block.d = f32_to_f16(max / 127);
  const float d = f16_to_f32(block.d);
  // Where the scale is 0 or no finite number, all quants are 0.
  const float factor = d > 0 && d <= 65504 ? 1 / d : 0;
  for (int i = 0; i < 32; ++i) {
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits. The scale
    // was rounded, so the largest may come out above 127.
    float y = x[i] * factor;
    y = y > 127 ? 127 : y;
    y = y < -127 ? -127 : y;
    const float shifted = (factor == 0 ? 0 : y) + 12582912.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof(bits));
    block.qs[i] = static_cast<int8_t>(bits);
  }
}

inline void to_q8_0(const float* x, BlockQ8_0* blocks, uint64_t n_blocks) {
  for (uint64_t b = 0; b < n_blocks; ++b) block_to_q8_0(x + 32 * b, blocks[b]);
}

}  // namespace
}  // namespace hybrid::internal
