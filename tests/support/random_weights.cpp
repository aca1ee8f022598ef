#include "tests/support/random_weights.h"

#include <cstring>
#include <random>

#include "base/error.h"
#include "base/half.h"
#include "tensor/quant_blocks.h"

namespace hybrid::test {
namespace {

using Random = std::mt19937;

float scale(Random& random) { return std::uniform_real_distribution<float>(0.001f, 0.01f)(random); }

template <class Block>
void fix_scales(Block& block, Random& random) {
  if constexpr (requires { block.d; }) block.d = f32_to_f16(scale(random));
  if constexpr (requires { block.dmin; }) block.dmin = f32_to_f16(scale(random));
  if constexpr (requires { block.m; }) block.m = f32_to_f16(-scale(random));
}

void fix_scales(BlockMXFP4& block, Random& random) {
  block.e = static_cast<uint8_t>(118 + random() % 4);
}

void fix_scales(BlockIQ1_M& block, Random& random) {
  const f16_t d = f32_to_f16(scale(random));
  for (int i = 0; i < 4; ++i) {
    block.scales[i] =
        static_cast<uint16_t>((block.scales[i] & 0x0fff) | ((d >> (4 * i)) & 15) << 12);
  }
}

template <class Block>
std::vector<std::byte> random_blocks(uint64_t n, Random& random) {
  std::vector<std::byte> bytes(n / Block::kSize * sizeof(Block));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (size_t at = 0; at < bytes.size(); at += sizeof(Block)) {
    fix_scales(*reinterpret_cast<Block*>(&bytes[at]), random);
  }
  return bytes;
}

template <class Float, class Convert>
std::vector<std::byte> converted_floats(uint64_t n, Random& random, Convert&& convert) {
  std::vector<std::byte> bytes(n * sizeof(Float));
  std::normal_distribution<float> normal;
  for (uint64_t i = 0; i < n; ++i) {
    const Float value = convert(normal(random));
    std::memcpy(&bytes[i * sizeof(Float)], &value, sizeof(Float));
  }
  return bytes;
}

}  // namespace

std::vector<std::byte> random_weights(DType type, uint64_t n, uint32_t seed) {
  HYBRID_CHECK(n % info_of(type).block_size == 0);
  Random random(seed);
  switch (type) {
    case DType::f32:
      return converted_floats<float>(n, random, [](float f) { return f; });
    case DType::f16:
      return converted_floats<f16_t>(n, random, f32_to_f16);
    case DType::bf16:
      return converted_floats<bf16_t>(n, random, f32_to_bf16);
    case DType::q4_0:
      return random_blocks<BlockQ4_0>(n, random);
    case DType::q4_1:
      return random_blocks<BlockQ4_1>(n, random);
    case DType::q5_0:
      return random_blocks<BlockQ5_0>(n, random);
    case DType::q5_1:
      return random_blocks<BlockQ5_1>(n, random);
    case DType::q8_0:
      return random_blocks<BlockQ8_0>(n, random);
    case DType::q2_k:
      return random_blocks<BlockQ2_K>(n, random);
    case DType::q3_k:
      return random_blocks<BlockQ3_K>(n, random);
    case DType::q4_k:
      return random_blocks<BlockQ4_K>(n, random);
    case DType::q5_k:
      return random_blocks<BlockQ5_K>(n, random);
    case DType::q6_k:
      return random_blocks<BlockQ6_K>(n, random);
    case DType::iq4_nl:
      return random_blocks<BlockIQ4_NL>(n, random);
    case DType::iq4_xs:
      return random_blocks<BlockIQ4_XS>(n, random);
    case DType::mxfp4:
      return random_blocks<BlockMXFP4>(n, random);
    case DType::iq2_xxs:
      return random_blocks<BlockIQ2_XXS>(n, random);
    case DType::iq2_xs:
      return random_blocks<BlockIQ2_XS>(n, random);
    case DType::iq2_s:
      return random_blocks<BlockIQ2_S>(n, random);
    case DType::iq3_xxs:
      return random_blocks<BlockIQ3_XXS>(n, random);
    case DType::iq3_s:
      return random_blocks<BlockIQ3_S>(n, random);
    case DType::iq1_s:
      return random_blocks<BlockIQ1_S>(n, random);
    case DType::iq1_m:
      return random_blocks<BlockIQ1_M>(n, random);
  }
  fail("internal: no random weights for type number {}", static_cast<uint32_t>(type));
}

namespace {

f16_t times(f16_t value, float factor) { return f32_to_f16(factor * f16_to_f32(value)); }

/// Minima of Q4_K and Q5_K that are the scales' equals, see BlockQ4_K::scales.
void copy_scales_to_minima(uint8_t* scales) {
  for (int i = 0; i < 4; ++i) {
    scales[4 + i] = scales[i];
    scales[8 + i] = static_cast<uint8_t>((scales[8 + i] & 15) * 17);
  }
}

void balance(BlockQ4_1& b) { b.m = times(b.d, -7.5f); }
void balance(BlockQ5_1& b) { b.m = times(b.d, -15.5f); }
void balance(BlockQ2_K& b) {
  for (uint8_t& scale : b.scales) scale = static_cast<uint8_t>((scale & 15) * 17);
  b.dmin = times(b.d, 1.5f);
}
void balance(BlockQ4_K& b) {
  copy_scales_to_minima(b.scales);
  b.dmin = times(b.d, 7.5f);
}
void balance(BlockQ5_K& b) {
  copy_scales_to_minima(b.scales);
  b.dmin = times(b.d, 15.5f);
}

template <class Block>
void balance_all(std::vector<std::byte>& bytes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(Block)) {
    balance(*reinterpret_cast<Block*>(&bytes[at]));
  }
}

}  // namespace

std::vector<std::byte> balanced_weights(DType type, uint64_t n, uint32_t seed) {
  std::vector<std::byte> bytes = random_weights(type, n, seed);
  if (type == DType::q4_1) balance_all<BlockQ4_1>(bytes);
  if (type == DType::q5_1) balance_all<BlockQ5_1>(bytes);
  if (type == DType::q2_k) balance_all<BlockQ2_K>(bytes);
  if (type == DType::q4_k) balance_all<BlockQ4_K>(bytes);
  if (type == DType::q5_k) balance_all<BlockQ5_K>(bytes);
  return bytes;
}

std::vector<float> random_floats(uint64_t n, uint32_t seed) {
  Random random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace hybrid::test
