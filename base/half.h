#pragma once
// 16-bit floats as storage: IEEE binary16 ("f16") and bfloat16, converted exactly to float and
// rounded to nearest even on the way back. Portable; the SIMD levels have their own instructions.

#include <bit>
#include <cstdint>

namespace hybrid {

using f16_t = uint16_t;   // the bits of an IEEE binary16
using bf16_t = uint16_t;  // the bits of a bfloat16

inline float f16_to_f32(f16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
  if (rest >= 0x0400u) return std::bit_cast<float>(sign | ((rest + (112u << 10)) << 13));
  // Subnormal: rest * 2^-24, exact in float.
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

inline f16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return static_cast<f16_t>(sign | 0x7e00u);   // NaN
  if (rest >= 0x477ff000u) return static_cast<f16_t>(sign | 0x7c00u);  // rounds past 65504
  if (rest < 0x38800000u) {  // below the smallest normal: let the float adder round at 2^-24
    const float shifted = std::bit_cast<float>(rest) + 0.5f;
    return static_cast<f16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u);
  return static_cast<f16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

inline float bf16_to_f32(bf16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

inline bf16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((bits >> 16) | 0x40u);  // NaN
  return static_cast<bf16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace hybrid
