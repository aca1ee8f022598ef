#pragma once
// The K types: 256 elements with scales of their own for 16 or 32 of them.
// For dequantize_table-inl.h, which says how this is compiled.

#include "base/half.h"
#include "tensor/dequantize-inl.h"

namespace hybrid::internal {
namespace {

void decode_q2_k(const BlockQ2_K& block, float* y) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (int g = 0; g < 8; ++g) {  // groups of 32 elements, two of the 16 scales each
    const uint8_t* bytes = block.qs + g / 4 * 32;
    const int shift = g % 4 * 2;
    uint8_t q[32];
    for (int l = 0; l < 32; ++l) q[l] = (bytes[l] >> shift) & 3;
    for (int h = 0; h < 2; ++h) {
      const uint8_t scale = block.scales[2 * g + h];
      const float m = dmin * static_cast<float>(scale >> 4);
      store_scaled<16>(y + 32 * g + 16 * h, d * static_cast<float>(scale & 15), -m, q + 16 * h);
    }
  }
}

void decode_q3_k(const BlockQ3_K& block, float* y) {
  const float d = f16_to_f32(block.d);
  uint8_t scales[16];
  unpack_q3_k_scales(block.scales, scales);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* bytes = block.qs + g / 4 * 32;
    const int shift = g % 4 * 2;
    int8_t q[32];
    for (int l = 0; l < 32; ++l) {
      const int high = (block.hmask[l] >> g) & 1;
      q[l] = static_cast<int8_t>((((bytes[l] >> shift) & 3) | (high << 2)) - 4);
    }
    for (int h = 0; h < 2; ++h) {
      const float scale = d * static_cast<float>(scales[2 * g + h] - 32);
      store_scaled<16>(y + 32 * g + 16 * h, scale, q + 16 * h);
    }
  }
}

void decode_q4_k(const BlockQ4_K& block, float* y) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_k4_scales(block.scales, scales, mins);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* bytes = block.qs + g / 2 * 32;
    const int shift = g % 2 * 4;
    uint8_t q[32];
    for (int l = 0; l < 32; ++l) q[l] = (bytes[l] >> shift) & 15;
    store_scaled<32>(y + 32 * g, d * scales[g], -(dmin * mins[g]), q);
  }
}

void decode_q5_k(const BlockQ5_K& block, float* y) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_k4_scales(block.scales, scales, mins);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* bytes = block.qs + g / 2 * 32;
    const int shift = g % 2 * 4;
    uint8_t q[32];
    for (int l = 0; l < 32; ++l) {
      const int high = (block.qh[l] >> g) & 1;
      q[l] = static_cast<uint8_t>(((bytes[l] >> shift) & 15) | (high << 4));
    }
    store_scaled<32>(y + 32 * g, d * scales[g], -(dmin * mins[g]), q);
  }
}

void decode_q6_k(const BlockQ6_K& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < 8; ++g) {
    const int half = g / 4;
    const uint8_t* low = block.ql + 64 * half + g % 2 * 32;
    const uint8_t* high = block.qh + 32 * half;
    const int low_shift = g % 4 / 2 * 4;
    const int high_shift = g % 4 * 2;
    int8_t q[32];
    for (int l = 0; l < 32; ++l) {
      const int bits = ((low[l] >> low_shift) & 15) | (((high[l] >> high_shift) & 3) << 4);
      q[l] = static_cast<int8_t>(bits - 32);
    }
    store_scaled<16>(y + 32 * g, d * block.scales[2 * g], q);
    store_scaled<16>(y + 32 * g + 16, d * block.scales[2 * g + 1], q + 16);
  }
}

void dequantize_q2_k(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ2_K, decode_q2_k>(src, dst, n);
}

void dequantize_q3_k(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ3_K, decode_q3_k>(src, dst, n);
}

void dequantize_q4_k(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ4_K, decode_q4_k>(src, dst, n);
}

void dequantize_q5_k(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ5_K, decode_q5_k>(src, dst, n);
}

void dequantize_q6_k(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ6_K, decode_q6_k>(src, dst, n);
}

}  // namespace
}  // namespace hybrid::internal
