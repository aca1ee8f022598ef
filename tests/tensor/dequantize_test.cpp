#include "tensor/dequantize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "tensor/codebooks.h"
#include "tensor/quant_blocks.h"
#include "tests/support/accuracy.h"
#include "tests/support/golden.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using test::same_bits;

namespace {

template <class Block>
std::vector<float> decode(const Block& block) {
  std::vector<float> values(Block::kSize);
  dequantize(Block::kType, reinterpret_cast<const std::byte*>(&block), values.data(), Block::kSize);
  return values;
}

/// A block of zero bytes, to fill in by hand.
template <class Block>
Block zero_block() {
  Block block;
  std::memset(&block, 0, sizeof(block));
  return block;
}

uint64_t fnv1a(std::span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) hash = (hash ^ static_cast<uint64_t>(b)) * 0x100000001b3u;
  return hash;
}

template <class Table>
uint64_t hash_of(const Table& table) {
  return fnv1a(std::as_bytes(std::span(table)));
}

struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

Golden read_golden(const DTypeInfo& info) {
  const std::string stem = "blocks/" + std::string(info.name);
  return {test::read_array<std::byte>(test::golden(stem + ".blocks")),
          test::read_array<float>(test::golden(stem + ".f32"))};
}

/// Element i of a grid entry.
template <class Word>
float grid_element(Word entry, int i) {
  return static_cast<float>(static_cast<int8_t>(entry >> (8 * i)));
}

constexpr f16_t kOne = 0x3c00;   // 1.0
constexpr f16_t kHalf = 0x3800;  // 0.5
constexpr f16_t kTwo = 0x4000;   // 2.0

}  // namespace

TEST_CASE("golden blocks decode bit for bit, from any address") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  HYBRID_NEEDS_GOLDEN();
  for (const DTypeInfo& info : all_dtypes()) {
    if (info.type == DType::f32) continue;  // no golden file, and nothing to decode
    CAPTURE(info.name);
    const Golden golden = read_golden(info);
    REQUIRE(golden.values.size() == 4096);
    REQUIRE(golden.blocks.size() == row_bytes(info.type, 4096));
    std::vector<float> decoded(4096);
    std::vector<std::byte> moved(golden.blocks.size() + 1);
    for (size_t shift = 0; shift < 2; ++shift) {
      std::memcpy(moved.data() + shift, golden.blocks.data(), golden.blocks.size());
      std::fill(decoded.begin(), decoded.end(), -1.0f);
      dequantize(info.type, moved.data() + shift, decoded.data(), 4096);
      CHECK(same_bits(decoded, golden.values));
    }
  }
}

TEST_CASE("decoding may begin and end at any block") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  HYBRID_NEEDS_GOLDEN();
  for (const DTypeInfo& info : all_dtypes()) {
    if (info.type == DType::f32) continue;
    CAPTURE(info.name);
    const Golden golden = read_golden(info);
    const size_t n_blocks = 4096 / info.block_size;
    for (const size_t first : {size_t{1}, size_t{3}, n_blocks - 1}) {
      for (const size_t count : {size_t{0}, size_t{1}, n_blocks - first}) {
        const size_t n = count * info.block_size;
        std::vector<float> decoded(n + 1, 42.0f);
        dequantize(info.type, golden.blocks.data() + first * info.block_bytes, decoded.data(), n);
        const auto expected = std::span(golden.values).subspan(first * info.block_size, n);
        CHECK(same_bits(std::span(decoded).first(n), expected));
        CHECK(decoded[n] == 42.0f);  // nothing beyond n is written
      }
    }
  }
}

TEST_CASE("no bytes are refused: garbage decodes within bounds, the same each time") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::mt19937 random(1);
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const size_t n = info.block_size * size_t{64};
    const size_t n_bytes = row_bytes(info.type, n);
    for (int round = 0; round < 20; ++round) {
      // An exact allocation, so that the address sanitizer sees the first byte too many.
      const auto bytes = std::make_unique<std::byte[]>(n_bytes + 1);
      for (size_t i = 0; i <= n_bytes; ++i) bytes[i] = static_cast<std::byte>(random());
      if (round == 0) std::memset(bytes.get(), 0xff, n_bytes + 1);
      std::vector<float> a(n, 1.0f);
      std::vector<float> b(n, 2.0f);
      dequantize(info.type, bytes.get() + 1, a.data(), n);
      dequantize(info.type, bytes.get() + 1, b.data(), n);
      CHECK(same_bits(a, b));
    }
  }
}

TEST_CASE("block structs agree with the table of types") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const auto agrees = [](auto block) {
    using Block = decltype(block);
    const DTypeInfo& info = info_of(Block::kType);
    CAPTURE(info.name);
    CHECK(info.block_size == Block::kSize);
    CHECK(info.block_bytes == sizeof(Block));
    CHECK(alignof(Block) == 1);
  };
  const auto all_agree = [&](auto... blocks) {
    (agrees(blocks), ...);
    return sizeof...(blocks);
  };
  const size_t n_structs =
      all_agree(BlockQ4_0{}, BlockQ4_1{}, BlockQ5_0{}, BlockQ5_1{}, BlockQ8_0{}, BlockMXFP4{},
                BlockIQ4_NL{}, BlockQ2_K{}, BlockQ3_K{}, BlockQ4_K{}, BlockQ5_K{}, BlockQ6_K{},
                BlockIQ4_XS{}, BlockIQ2_XXS{}, BlockIQ2_XS{}, BlockIQ2_S{}, BlockIQ3_XXS{},
                BlockIQ3_S{}, BlockIQ1_S{}, BlockIQ1_M{});
  CHECK(n_structs + 3 == all_dtypes().size());  // and F32, F16, BF16, which have none
}

TEST_CASE("a number that is no type has no decoder") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  CHECK_THROWS_AS(dequantize_fn(static_cast<DType>(5)), Error);
}

TEST_CASE("the codebooks are the format's") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  CHECK(hash_of(kIq4NlValues) == 0x055d06d2d8fa0f75u);
  CHECK(hash_of(kMxfp4Values) == 0x3f0e3c08af1e5eb5u);
  CHECK(hash_of(kIq2XxsGrid) == 0xbb4ee025b5ac6e8eu);
  CHECK(hash_of(kIq2XsGrid) == 0xc9b1ee61e79909bdu);
  CHECK(hash_of(kIq2SGrid) == 0x123edd38a3b62b90u);
  CHECK(hash_of(kIq1Grid) == 0x6703ed863501ae2eu);
  CHECK(hash_of(kIq3XxsGrid) == 0xdfa5dc83d6a155d5u);
  CHECK(hash_of(kIq3SGrid) == 0xfa37020c25b44829u);
  std::array<uint8_t, 128> signs;
  for (uint32_t i = 0; i < 128; ++i) signs[i] = even_signs(i);
  CHECK(hash_of(signs) == 0xf19ba8f8c3292ba5u);
}

TEST_CASE("floats of 32 and 16 bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const float f[] = {1.5f, -0.0f, INFINITY};
  float out[3];
  dequantize(DType::f32, reinterpret_cast<const std::byte*>(f), out, 3);
  CHECK(same_bits(out, f));
  const f16_t h[] = {kOne, 0x8001, 0xfc00};
  dequantize(DType::f16, reinterpret_cast<const std::byte*>(h), out, 3);
  CHECK(same_bits(out, std::array{1.0f, -0x1p-24f, -INFINITY}));
  const bf16_t b[] = {0x3f80, 0xc040, 0x0001};
  dequantize(DType::bf16, reinterpret_cast<const std::byte*>(b), out, 3);
  CHECK(same_bits(out, std::array{1.0f, -3.0f, 0x1p-133f}));
}

TEST_CASE("every f16 is decoded as base/half.h does it") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<f16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<f16_t>(i);
  std::vector<float> decoded(bits.size());
  dequantize(DType::f16, reinterpret_cast<const std::byte*>(bits.data()), decoded.data(),
             bits.size());
  for (size_t i = 0; i < bits.size(); ++i) {
    REQUIRE(std::bit_cast<uint32_t>(decoded[i]) == std::bit_cast<uint32_t>(f16_to_f32(bits[i])));
  }
}

TEST_CASE("Q4_0, Q4_1: a byte holds elements j and j + 16") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto q4_0 = zero_block<BlockQ4_0>();
  q4_0.d = kHalf;
  q4_0.qs[0] = 0x0f;
  q4_0.qs[15] = 0x98;
  const auto a = decode(q4_0);
  CHECK(a[0] == 3.5f);    // (15 - 8) / 2
  CHECK(a[16] == -4.0f);  // (0 - 8) / 2
  CHECK(a[15] == 0.0f);
  CHECK(a[31] == 0.5f);
  auto q4_1 = zero_block<BlockQ4_1>();
  q4_1.d = kTwo;
  q4_1.m = kOne;
  q4_1.qs[3] = 0xa5;
  const auto b = decode(q4_1);
  CHECK(b[3] == 11.0f);
  CHECK(b[19] == 21.0f);
  CHECK(b[0] == 1.0f);
}

TEST_CASE("Q5_0, Q5_1: qh has the fifth bits in the order of the elements") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto q5_0 = zero_block<BlockQ5_0>();
  q5_0.d = kOne;
  q5_0.qs[1] = 0x3f;
  q5_0.qh[0] = 0x02;  // element 1
  q5_0.qh[2] = 0x02;  // element 17
  const auto a = decode(q5_0);
  CHECK(a[1] == 15.0f);
  CHECK(a[17] == 3.0f);
  CHECK(a[0] == -16.0f);
  auto q5_1 = zero_block<BlockQ5_1>();
  q5_1.d = kOne;
  q5_1.m = kHalf;
  q5_1.qh[3] = 0x80;  // element 31
  const auto b = decode(q5_1);
  CHECK(b[31] == 16.5f);
  CHECK(b[30] == 0.5f);
}

TEST_CASE("Q8_0: signed bytes") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ8_0>();
  block.d = kHalf;
  block.qs[0] = -128;
  block.qs[31] = 127;
  const auto values = decode(block);
  CHECK(values[0] == -64.0f);
  CHECK(values[31] == 63.5f);
}

TEST_CASE("Q2_K: two bits, and a scale and a minimum of four bits per 16") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ2_K>();
  block.d = kOne;
  block.dmin = kHalf;
  block.scales[3] = 0x43;  // elements 48 to 63: scale 3, minimum 4
  block.qs[16] = 0x08;     // element 48 is 2 (bits 2 and 3)
  block.scales[8] = 0x01;  // elements 128 to 143: scale 1
  block.qs[32] = 0x03;     // element 128 is 3
  const auto values = decode(block);
  CHECK(values[48] == 4.0f);  // 3 * 2 - 4 / 2
  CHECK(values[49] == -2.0f);
  CHECK(values[128] == 3.0f);
  CHECK(values[0] == 0.0f);
}

TEST_CASE("Q3_K: a set mask bit spares the element the -4") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ3_K>();
  block.d = kOne;
  block.scales[0] = 0x21;  // scale 0: low bits 1; scale 8: low bits 2
  block.scales[8] = 0x22;  // both have the top bits 2 (their fields: bits 0, 1 and bits 4, 5)
  block.qs[0] = 0x03;      // element 0: 3
  block.hmask[0] = 0x11;   // elements 0 and 128
  block.scales[5] = 0x07;  // scale 5 (elements 80 to 95): low bits 7
  block.scales[9] = 0x0c;  // ... and top bits 3
  const auto values = decode(block);
  CHECK(values[80] == -92.0f);  // (55 - 32) * -4
  CHECK(values[0] == 3.0f);     // (33 - 32) * 3
  CHECK(values[1] == -4.0f);    // (33 - 32) * (0 - 4)
  CHECK(values[128] == 0.0f);   // (34 - 32) * 0
  CHECK(values[129] == -8.0f);
  CHECK(values[16] == 128.0f);  // scale 1 is 0: (0 - 32) * (0 - 4)
}

TEST_CASE("Q4_K: six-bit scales, the last four of them in two pieces") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ4_K>();
  block.d = kOne;
  block.dmin = kTwo;
  block.scales[1] = 0x80 | 5;  // scale 1 is 5; scale 5 gets 2 << 4
  block.scales[5] = 0xc0 | 1;  // minimum 1 is 1; minimum 5 gets 3 << 4
  block.scales[9] = 0x43;      // scale 5: 3, minimum 5: 4
  block.qs[0] = 0x7f;          // elements 0 and 32
  block.qs[64 + 31] = 0x90;    // element 191
  const auto values = decode(block);
  CHECK(values[0] == 0.0f);    // scale 0 is 0
  CHECK(values[32] == 33.0f);  // 5 * 7 - 2 * 1
  CHECK(values[33] == -2.0f);
  CHECK(values[191] == 211.0f);  // 35 * 9 - 2 * 52
  CHECK(values[190] == -104.0f);
}

TEST_CASE("Q5_K: Q4_K with a fifth bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ5_K>();
  block.d = kOne;
  block.scales[2] = 3;  // elements 64 to 95
  block.qh[4] = 0x04;   // element 68
  block.qs[36] = 0x01;
  const auto values = decode(block);
  CHECK(values[68] == 51.0f);  // 3 * (1 + 16)
  CHECK(values[69] == 0.0f);
}

TEST_CASE("Q6_K: four low bits, two high bits, signed scales") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockQ6_K>();
  block.d = kHalf;
  block.scales[0] = -4;    // elements 0 to 15
  block.scales[15] = 127;  // elements 240 to 255
  block.ql[0] = 0xf5;      // element 0
  block.qh[0] = 0x02 | 2 << 2;
  block.ql[127] = 0xf0;  // element 255
  block.qh[63] = 0xc0;
  block.scales[2] = 2;  // elements 32 to 47
  block.ql[32] = 0x02;  // element 32; its high bits are the 2 << 2 above
  block.scales[4] = 1;  // elements 64 to 79: element 64 is ql[0]'s high nibble
  const auto values = decode(block);
  CHECK(values[32] == 2.0f);         // 1 * (34 - 32)
  CHECK(values[64] == -8.5f);        // 0.5 * (15 - 32)
  CHECK(values[0] == -10.0f);        // -2 * (37 - 32)
  CHECK(values[1] == 64.0f);         // -2 * (0 - 32)
  CHECK(values[255] == 63.5f * 31);  // 63.5 * (63 - 32)
  CHECK(values[254] == 63.5f * -32);
}

TEST_CASE("IQ4_NL, IQ4_XS: nibbles through a table") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto nl = zero_block<BlockIQ4_NL>();
  nl.d = kTwo;
  nl.qs[0] = 0xf8;
  const auto a = decode(nl);
  CHECK(a[0] == 2.0f);
  CHECK(a[16] == 226.0f);
  CHECK(a[1] == -254.0f);
  auto xs = zero_block<BlockIQ4_XS>();
  xs.d = kOne;
  xs.scales_l[2] = 0x10;  // scale 5: 1 ...
  xs.scales_h = 2 << 10;  // ... + 32
  xs.qs[80] = 0x70;
  const auto b = decode(xs);
  CHECK(b[160] == -127.0f);
  CHECK(b[176] == -10.0f);
  CHECK(b[0] == 127.0f * 32);  // scale 0 is -32
}

TEST_CASE("MXFP4: the exponent covers subnormals, and is doubled in the values") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockMXFP4>();
  block.qs[0] = 0xf7;
  block.e = 128;
  CHECK(decode(block)[0] == 12.0f);
  CHECK(decode(block)[16] == -12.0f);
  block.e = 0;
  CHECK(decode(block)[0] == 12 * 0x1p-128f);
  block.e = 1;
  CHECK(decode(block)[0] == 12 * 0x1p-127f);
  block.e = 2;
  CHECK(decode(block)[0] == 12 * 0x1p-126f);
}

TEST_CASE("IQ2_XXS, IQ3_XXS: seven signs stored, the eighth makes their number even") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto iq2 = zero_block<BlockIQ2_XXS>();
  iq2.d = kTwo;
  iq2.groups[1].signs_and_scale = 3u << 28 | 4u << 7;  // run 1: element 2, and so element 7
  const auto a = decode(iq2);
  CHECK(a[32] == 14.0f);  // 2 * 3.5 / 4 * 8: grid entry 0 is all eights
  CHECK(a[42] == -14.0f);
  CHECK(a[47] == -14.0f);
  CHECK(a[0] == 2.0f);  // 2 * 0.5 / 4 * 8
  auto iq3 = zero_block<BlockIQ3_XXS>();
  iq3.d = kTwo;
  iq3.signs_and_scales[7] = 1u << 28 | 3u << 21;  // run 31: elements 0 and 1
  const auto b = decode(iq3);
  CHECK(b[248] == -6.0f);  // 2 * 1.5 / 2 * 4
  CHECK(b[249] == -6.0f);
  CHECK(b[250] == 6.0f);
  CHECK(b[255] == 6.0f);
}

TEST_CASE("IQ1_S: a scale and a shift of an eighth for 32") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockIQ1_S>();
  block.d = kTwo;
  block.qs[7] = 0x21;
  block.qh[1] = 0x8000 | 3 << 12 | 5 << 9;  // scale 7, delta -1/8; grid entry 0 is all -1
  const auto values = decode(block);
  CHECK(values[0] == -1.75f);  // 2 * (-1 + 1/8)
  CHECK(values[63] == 14 * (grid_element(kIq1Grid[0x521], 7) - 0.125f));
  CHECK(values[32] == -15.75f);  // 14 * (-1 - 1/8)
}

TEST_CASE("IQ2_XS: nine bits of index under seven of signs") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockIQ2_XS>();
  block.d = kTwo;
  block.qs[6] = 511 | 1 << 9;  // run 6: the last entry; element 0 and so element 7 negated
  block.scales[1] = 0x50;      // elements 48 to 63
  const auto values = decode(block);
  CHECK(values[48] == -2.75f * grid_element(kIq2XsGrid[511], 0));  // 2 * 5.5 / 4
  CHECK(values[49] == 2.75f * grid_element(kIq2XsGrid[511], 1));
  CHECK(values[55] == -2.75f * grid_element(kIq2XsGrid[511], 7));
  CHECK(values[56] == 22.0f);  // entry 0 is all eights
  CHECK(values[47] == 2.0f);   // 2 * 0.5 / 4 * 8
}

TEST_CASE("IQ2_S: two more bits of index per run, all eight signs stored") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockIQ2_S>();
  block.d = kTwo;
  block.qs[31] = 0xfe;
  block.qh[7] = 0x80;  // run 31: 2 << 8
  block.signs[31] = 0x80;
  block.scales[7] = 0x30;
  const auto values = decode(block);
  CHECK(values[248] == 1.75f * grid_element(kIq2SGrid[0x2fe], 0));  // 2 * 3.5 / 4
  CHECK(values[254] == 1.75f * grid_element(kIq2SGrid[0x2fe], 6));
  CHECK(values[255] == -1.75f * grid_element(kIq2SGrid[0x2fe], 7));
  CHECK(values[239] == 2.0f);
}

TEST_CASE("IQ3_S: a ninth bit of index per four elements, odd scales") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockIQ3_S>();
  block.d = kHalf;
  block.qs[8] = 7;     // elements 32 to 35
  block.qh[1] = 0x02;  // of elements 36 to 39
  block.signs[4] = 0x21;
  block.scales[0] = 0x40;  // group 1
  const auto values = decode(block);
  CHECK(values[32] == -4.5f * grid_element(kIq3SGrid[7], 0));  // (1 + 2 * 4) / 2
  CHECK(values[35] == 4.5f * grid_element(kIq3SGrid[7], 3));
  CHECK(values[36] == 4.5f * grid_element(kIq3SGrid[256], 0));
  CHECK(values[37] == -4.5f * grid_element(kIq3SGrid[256], 1));
  CHECK(values[0] == 0.5f);  // entry 0 is all ones
}

TEST_CASE("IQ1_M: the block's scale is spread over the small ones") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  auto block = zero_block<BlockIQ1_M>();
  block.scales[0] = 0x1000;  // 0x4301 = 3.501953125
  block.scales[1] = 0x0000;
  block.scales[2] = 0x3000 | 5 << 9;  // and scale 11 (elements 176 to 191) is 5
  block.scales[3] = 0x4000;
  block.qs[23] = 0x34;  // elements 184 to 191
  block.qh[11] = 0xe0;  // index 0x634, delta -1/8
  const float d = 3.501953125f;
  const auto values = decode(block);
  CHECK(values[0] == d * -0.875f);
  for (int i = 0; i < 8; ++i) {
    CHECK(values[176 + i] == 11 * d * -0.875f);
    CHECK(values[184 + i] == 11 * d * (grid_element(kIq1Grid[0x634], i) - 0.125f));
  }
}
