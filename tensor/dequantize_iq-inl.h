#pragma once
// The types whose values come out of a table.
// For dequantize_table-inl.h, which says how this is compiled.

#include <array>
#include <cstring>

#include "base/half.h"
#include "tensor/codebooks.h"
#include "tensor/dequantize-inl.h"

namespace hybrid::internal {
namespace {

/// Bytes `magnitudes` (1 to 127 each), negated where the run's sign bit is set. ~b + 1 per byte: no
/// byte is 0, so nothing carries over.
inline uint64_t apply_signs(uint64_t magnitudes, uint8_t signs) {
  const uint64_t flags = spread_bits(signs);
  return (magnitudes ^ (flags * 0xff)) + flags;
}

inline uint64_t join(uint32_t low, uint32_t high) {
  return low | static_cast<uint64_t>(high) << 32;
}

/// y[i] = d * (signed byte i of `run`), for 8 elements
inline void store_run(float* y, float d, uint64_t run) {
  int8_t q[8];
  std::memcpy(q, &run, 8);
  store_scaled<8>(y, d, q);
}

/// 16 nibble pairs through a table of 16 values.
inline void store_looked_up(float* y, float d, const uint8_t* pairs,
                            const std::array<int8_t, 16>& values) {
  int8_t q[32];
  for (int j = 0; j < 16; ++j) {
    q[j] = values[pairs[j] & 15];
    q[j + 16] = values[pairs[j] >> 4];
  }
  store_scaled<32>(y, d, q);
}

void decode_iq4_nl(const BlockIQ4_NL& block, float* y) {
  store_looked_up(y, f16_to_f32(block.d), block.qs, kIq4NlValues);
}

void decode_mxfp4(const BlockMXFP4& block, float* y) {
  store_looked_up(y, e8m0_half(block.e), block.qs, kMxfp4Values);
}

void decode_iq4_xs(const BlockIQ4_XS& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < 8; ++g) {
    const int low = (block.scales_l[g / 2] >> (g % 2 * 4)) & 15;
    const int high = (block.scales_h >> (2 * g)) & 3;
    const auto scale = static_cast<float>((low | (high << 4)) - 32);
    store_looked_up(y + 32 * g, d * scale, block.qs + 16 * g, kIq4NlValues);
  }
}

/// d * (s + 1/2) * unit, in the formats' order.
inline float fractional_scale(float d, uint32_t s, float unit) {
  return d * (0.5f + static_cast<float>(s)) * unit;
}

void decode_iq2_xxs(const BlockIQ2_XXS& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < 8; ++g) {
    const uint32_t word = block.groups[g].signs_and_scale;
    const float scale = fractional_scale(d, word >> 28, 0.25f);
    for (int l = 0; l < 4; ++l) {
      const uint64_t point = kIq2XxsGrid[block.groups[g].index[l]];
      const uint8_t signs = even_signs((word >> (7 * l)) & 127);
      store_run(y + 32 * g + 8 * l, scale, apply_signs(point, signs));
    }
  }
}

void decode_iq2_xs(const BlockIQ2_XS& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int run = 0; run < 32; ++run) {
    const uint32_t s = block.scales[run / 4] >> (run % 4 / 2 * 4) & 15;
    const uint32_t word = block.qs[run];
    const uint64_t point = kIq2XsGrid[word & 511];
    store_run(y + 8 * run, fractional_scale(d, s, 0.25f),
              apply_signs(point, even_signs(word >> 9)));
  }
}

void decode_iq2_s(const BlockIQ2_S& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int run = 0; run < 32; ++run) {
    const uint32_t s = block.scales[run / 4] >> (run % 4 / 2 * 4) & 15;
    const uint32_t high = block.qh[run / 4] >> (run % 4 * 2) & 3;
    const uint64_t point = kIq2SGrid[block.qs[run] | high << 8];
    store_run(y + 8 * run, fractional_scale(d, s, 0.25f), apply_signs(point, block.signs[run]));
  }
}

void decode_iq3_xxs(const BlockIQ3_XXS& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < 8; ++g) {
    const uint32_t word = block.signs_and_scales[g];
    const float scale = fractional_scale(d, word >> 28, 0.5f);
    for (int l = 0; l < 4; ++l) {
      const uint8_t* index = block.qs + 8 * g + 2 * l;
      const uint64_t point = join(kIq3XxsGrid[index[0]], kIq3XxsGrid[index[1]]);
      const uint8_t signs = even_signs((word >> (7 * l)) & 127);
      store_run(y + 32 * g + 8 * l, scale, apply_signs(point, signs));
    }
  }
}

void decode_iq3_s(const BlockIQ3_S& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int run = 0; run < 32; ++run) {
    const int g = run / 4;
    const uint32_t s = block.scales[g / 2] >> (g % 2 * 4) & 15;
    const uint32_t high = block.qh[g] >> (run % 4 * 2);
    const uint32_t low_index = block.qs[2 * run] | (high & 1) << 8;
    const uint32_t high_index = block.qs[2 * run + 1] | (high >> 1 & 1) << 8;
    const uint64_t point = join(kIq3SGrid[low_index], kIq3SGrid[high_index]);
    const float scale = d * static_cast<float>(1 + 2 * s);
    store_run(y + 8 * run, scale, apply_signs(point, block.signs[run]));
  }
}

/// y[i] = scale * (grid + delta), for 8 elements
inline void store_iq1_run(float* y, float scale, uint32_t index, float delta) {
  int8_t q[8];
  std::memcpy(q, &kIq1Grid[index], 8);
  for (int j = 0; j < 8; ++j) y[j] = scale * (static_cast<float>(q[j]) + delta);
}

constexpr float kIq1Delta = 0.125f;

void decode_iq1_s(const BlockIQ1_S& block, float* y) {
  const float d = f16_to_f32(block.d);
  for (int run = 0; run < 32; ++run) {
    const uint32_t word = block.qh[run / 4];
    const float scale = d * static_cast<float>(2 * (word >> 12 & 7) + 1);
    const float delta = word & 0x8000 ? -kIq1Delta : kIq1Delta;
    const uint32_t high = word >> (run % 4 * 3) & 7;
    store_iq1_run(y + 8 * run, scale, block.qs[run] | high << 8, delta);
  }
}

void decode_iq1_m(const BlockIQ1_M& block, float* y) {
  const float d = f16_to_f32(iq1_m_scale(block));
  for (int run = 0; run < 32; ++run) {
    const uint32_t s = block.scales[run / 8] >> (run % 8 / 2 * 3) & 7;
    const uint32_t nibble = block.qh[run / 2] >> (run % 2 * 4) & 15;
    const float delta = nibble & 8 ? -kIq1Delta : kIq1Delta;
    const float scale = d * static_cast<float>(2 * s + 1);
    store_iq1_run(y + 8 * run, scale, block.qs[run] | (nibble & 7) << 8, delta);
  }
}

void dequantize_iq4_nl(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ4_NL, decode_iq4_nl>(src, dst, n);
}

void dequantize_iq4_xs(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ4_XS, decode_iq4_xs>(src, dst, n);
}

void dequantize_mxfp4(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockMXFP4, decode_mxfp4>(src, dst, n);
}

void dequantize_iq2_xxs(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ2_XXS, decode_iq2_xxs>(src, dst, n);
}

void dequantize_iq2_xs(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ2_XS, decode_iq2_xs>(src, dst, n);
}

void dequantize_iq2_s(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ2_S, decode_iq2_s>(src, dst, n);
}

void dequantize_iq3_xxs(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ3_XXS, decode_iq3_xxs>(src, dst, n);
}

void dequantize_iq3_s(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ3_S, decode_iq3_s>(src, dst, n);
}

void dequantize_iq1_s(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ1_S, decode_iq1_s>(src, dst, n);
}

void dequantize_iq1_m(const std::byte* src, float* dst, uint64_t n) {
  decode_blocks<BlockIQ1_M, decode_iq1_m>(src, dst, n);
}

}  // namespace
}  // namespace hybrid::internal
