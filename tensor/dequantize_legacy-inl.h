#pragma once
// The types of one scale (and perhaps a minimum) per 32 elements, and the floats.
// For dequantize_table-inl.h, which says how this is compiled.

#include <bit>
#include <cstring>

#include "base/half.h"
#include "tensor/dequantize-inl.h"

namespace hybrid::internal {
namespace {

/// The low nibbles first, then the high ones.
inline void unpack_nibbles(const uint8_t* pairs, int8_t* q) {
  for (int j = 0; j < 16; ++j) {
    q[j] = static_cast<int8_t>(pairs[j] & 15);
    q[j + 16] = static_cast<int8_t>(pairs[j] >> 4);
  }
}

/// Nibbles with a fifth bit from qh.
inline void unpack_5_bits(const uint8_t* pairs, const uint8_t* qh, int8_t* q) {
  uint8_t high[32];
  for (int g = 0; g < 4; ++g) {
    const uint64_t flags = spread_bits(qh[g]);
    std::memcpy(high + 8 * g, &flags, 8);
  }
  unpack_nibbles(pairs, q);
  for (int j = 0; j < 32; ++j) q[j] = static_cast<int8_t>(q[j] | (high[j] << 4));
}

void decode_q4_0(const BlockQ4_0& block, float* y) {
  int8_t q[32];
  unpack_nibbles(block.qs, q);
  for (int8_t& value : q) value = static_cast<int8_t>(value - 8);
  store_scaled<32>(y, f16_to_f32(block.d), q);
}

void decode_q4_1(const BlockQ4_1& block, float* y) {
  int8_t q[32];
  unpack_nibbles(block.qs, q);
  store_scaled<32>(y, f16_to_f32(block.d), f16_to_f32(block.m), q);
}

void decode_q5_0(const BlockQ5_0& block, float* y) {
  int8_t q[32];
  unpack_5_bits(block.qs, block.qh, q);
  for (int8_t& value : q) value = static_cast<int8_t>(value - 16);
  store_scaled<32>(y, f16_to_f32(block.d), q);
}

void decode_q5_1(const BlockQ5_1& block, float* y) {
  int8_t q[32];
  unpack_5_bits(block.qs, block.qh, q);
  store_scaled<32>(y, f16_to_f32(block.d), f16_to_f32(block.m), q);
}

void decode_q8_0(const BlockQ8_0& block, float* y) {
  store_scaled<32>(y, f16_to_f32(block.d), block.qs);
}

/// f16_to_f32 with masks in place of branches: a loop of it is vectorised.
inline float f16_to_f32_masked(f16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = h & 0x7fffu;
  const uint32_t is_special = 0u - (rest >= 0x7c00u);
  const uint32_t is_subnormal = 0u - (rest < 0x0400u);
  // Infinity and NaN: from exponent 31 + 112 to 255.
  const uint32_t normal = ((rest + (112u << 10)) << 13) + (is_special & (112u << 23));
  const float scaled = static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-24f;
  const uint32_t subnormal = std::bit_cast<uint32_t>(scaled);
  return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (normal & ~is_subnormal));
}

void dequantize_f32(const std::byte* src, float* dst, uint64_t n) {
  std::memcpy(dst, src, n * sizeof(float));
}

void dequantize_f16(const std::byte* src, float* dst, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    f16_t bits;
    std::memcpy(&bits, src + i * sizeof(bits), sizeof(bits));
    dst[i] = f16_to_f32_masked(bits);
  }
}

void dequantize_bf16(const std::byte* src, float* dst, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    bf16_t bits;
    std::memcpy(&bits, src + i * sizeof(bits), sizeof(bits));
    dst[i] = bf16_to_f32(bits);
  }
}

void dequantize_q4_0(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ4_0, decode_q4_0>(src, dst, n);
}

void dequantize_q4_1(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ4_1, decode_q4_1>(src, dst, n);
}

void dequantize_q5_0(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ5_0, decode_q5_0>(src, dst, n);
}

void dequantize_q5_1(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ5_1, decode_q5_1>(src, dst, n);
}

void dequantize_q8_0(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockQ8_0, decode_q8_0>(src, dst, n);
}

}  // namespace
}  // namespace hybrid::internal
