#include "tensor/panel_exponent.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "tensor/quant_blocks.h"

namespace hybrid {
namespace {

/// |weight| <= scale * |d| + minimum * |dmin| for every element of a block, with d and dmin (or m)
/// at these offsets; minimum 0 where there is none.
struct Bound {
  uint32_t scale_offset = 0;
  float scale = 0;
  uint32_t minimum_offset = 0;
  float minimum = 0;
};

Bound bound_of(DType type) {
  switch (type) {
    case DType::q4_0:
      return {0, 8};
    case DType::q4_1:
      return {0, 15, 2, 1};
    case DType::q5_0:
      return {0, 16};
    case DType::q5_1:
      return {0, 31, 2, 1};
    case DType::q8_0:
      return {0, 128};
    case DType::q2_k:
      return {80, 15 * 3, 82, 15};
    case DType::q3_k:
      return {108, 32 * 4};
    case DType::q4_k:
      return {0, 63 * 15, 2, 63};
    case DType::q5_k:
      return {0, 63 * 31, 2, 63};
    case DType::q6_k:
      return {208, 128 * 32};
    case DType::iq4_nl:
      return {0, 127};
    case DType::iq4_xs:
      return {0, 32 * 127};
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
      return {0, 15.5f / 4 * 43};
    case DType::iq3_xxs:
      return {0, 15.5f / 2 * 62};
    case DType::iq3_s:
      return {0, 31 * 64};  // the offset of the signed values counts, too
    case DType::iq1_s:
      return {0, 15 * 2};
    case DType::iq1_m:
      return {0, 15 * 2};
    default:
      return {0, 1};  // the element itself
  }
}

f16_t half_at(const std::byte* p) {
  f16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}

float magnitude_at(const std::byte* p) { return std::abs(f16_to_f32(half_at(p))); }

float block_bound(DType type, const Bound& bound, const std::byte* block) {
  if (type == DType::mxfp4) return 12 * e8m0_half(static_cast<uint8_t>(block[0]));
  if (type == DType::iq1_m) {
    BlockIQ1_M b;
    std::memcpy(&b, block, sizeof(b));
    return bound.scale * std::abs(f16_to_f32(iq1_m_scale(b)));
  }
  return bound.scale * magnitude_at(block + bound.scale_offset) +
         bound.minimum * magnitude_at(block + bound.minimum_offset);
}

float largest_bound(DType type, const Bound& bound, const std::byte* blocks, uint64_t n_blocks) {
  const uint32_t block_bytes = info_of(type).block_bytes;
  float largest = 0;
  for (uint64_t i = 0; i < n_blocks; ++i) {
    const float value = block_bound(type, bound, blocks + i * block_bytes);
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  return largest;
}

/// The largest finite magnitude of half floats that lie `stride` bytes apart. Without their signs
/// they are ordered as the integers they are.
float largest_half(const std::byte* first, uint64_t stride, uint64_t n) {
  constexpr int16_t kInfinity = 0x7c00;
  int16_t largest = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const auto bits = static_cast<int16_t>(half_at(first + i * stride) & 0x7fff);
    largest = std::max(largest, bits < kInfinity ? bits : int16_t{0});
  }
  return f16_to_f32(static_cast<f16_t>(largest));
}

/// One scale in each block, which is a half float.
bool has_lone_scale(DType type, const Bound& bound) {
  return bound.minimum == 0 && type != DType::mxfp4 && type != DType::iq1_m;
}

}  // namespace

int8_t panel_exponent(DType type, const std::byte* blocks, uint64_t n_blocks) {
  if (type == DType::f32 || type == DType::bf16) return 0;
  const Bound bound = bound_of(type);
  float largest;
  if (type == DType::f16) {
    largest = largest_half(blocks, sizeof(f16_t), n_blocks);  // a constant stride: by vectors
  } else if (has_lone_scale(type, bound)) {
    largest = bound.scale *
              largest_half(blocks + bound.scale_offset, info_of(type).block_bytes, n_blocks);
  } else {
    largest = largest_bound(type, bound, blocks, n_blocks);
  }
  if (largest == 0) return 0;
  int log2_above;  // largest < 2^log2_above
  std::frexp(largest, &log2_above);
  const int limit = type == DType::f16 ? 15 : 60;  // 2^e must be a half float, or at least a float
  return static_cast<int8_t>(std::clamp(15 - log2_above, -limit, limit));
}

}  // namespace hybrid
