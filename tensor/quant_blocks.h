#pragma once
// The blocks of the quantised types, byte for byte as they lie in a GGUF file (little endian).
//
// Every struct is packed, so it may lie at any address. In the byte maps an offset is followed by
// what begins there; "element" counts within the block, and a nibble pair holds its first element
// in the low four bits. `d` is the block's scale. F32, F16 and BF16 have no blocks.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "tensor/dtype.h"

namespace hybrid {

static_assert(std::endian::native == std::endian::little,
              "blocks are read as they lie in the file");

// ---- 32 elements and one scale ------------------------------------------------------------------
// Elements j and j + 16 share the byte qs[j]: j the low nibble, j + 16 the high one.

///  0 d | 2 qs: 16 nibble pairs                                 value = d * (q - 8)
struct __attribute__((packed)) BlockQ4_0 {
  static constexpr DType kType = DType::q4_0;
  static constexpr int kSize = 32;
  f16_t d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_0) == 18 && offsetof(BlockQ4_0, qs) == 2);

///  0 d | 2 m | 4 qs: 16 nibble pairs                           value = d * q + m
struct __attribute__((packed)) BlockQ4_1 {
  static constexpr DType kType = DType::q4_1;
  static constexpr int kSize = 32;
  f16_t d;
  f16_t m;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_1) == 20 && offsetof(BlockQ4_1, m) == 2 &&
              offsetof(BlockQ4_1, qs) == 4);

///  0 d | 2 qh: bit j is bit 4 of element j | 6 qs: 16 nibble pairs   value = d * (q - 16)
struct __attribute__((packed)) BlockQ5_0 {
  static constexpr DType kType = DType::q5_0;
  static constexpr int kSize = 32;
  f16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_0) == 22 && offsetof(BlockQ5_0, qh) == 2 &&
              offsetof(BlockQ5_0, qs) == 6);

///  0 d | 2 m | 4 qh: bit j is bit 4 of element j | 8 qs: 16 nibble pairs   value = d * q + m
struct __attribute__((packed)) BlockQ5_1 {
  static constexpr DType kType = DType::q5_1;
  static constexpr int kSize = 32;
  f16_t d;
  f16_t m;
  uint8_t qh[4];
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_1) == 24 && offsetof(BlockQ5_1, m) == 2 &&
              offsetof(BlockQ5_1, qh) == 4 && offsetof(BlockQ5_1, qs) == 8);

///  0 d | 2 qs: 32 signed bytes                                 value = d * q
struct __attribute__((packed)) BlockQ8_0 {
  static constexpr DType kType = DType::q8_0;
  static constexpr int kSize = 32;
  f16_t d;
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34 && offsetof(BlockQ8_0, qs) == 2);

///  0 e: 8-bit exponent, see e8m0_half | 1 qs: 16 nibble pairs
///  value = e8m0_half(e) * kMxfp4Values[q] (the values are doubled, hence the half)
struct __attribute__((packed)) BlockMXFP4 {
  static constexpr DType kType = DType::mxfp4;
  static constexpr int kSize = 32;
  uint8_t e;
  uint8_t qs[16];
};
static_assert(sizeof(BlockMXFP4) == 17 && offsetof(BlockMXFP4, qs) == 1);

///  0 d | 2 qs: 16 nibble pairs                                 value = d * kIq4NlValues[q]
struct __attribute__((packed)) BlockIQ4_NL {
  static constexpr DType kType = DType::iq4_nl;
  static constexpr int kSize = 32;
  f16_t d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18 && offsetof(BlockIQ4_NL, qs) == 2);

// ---- K types: 256 elements in groups with their own small scales --------------------------------

///  0 scales: 16 bytes, for each 16 elements the scale (low nibble) and the minimum (high nibble)
/// 16 qs: 2 halves of 32 bytes; byte l of half h holds elements 128 h + l + {0, 32, 64, 96}, two
/// bits
///        each from the lowest bits up
/// 80 d | 82 dmin                                               value = d * scale * q - dmin * min
struct __attribute__((packed)) BlockQ2_K {
  static constexpr DType kType = DType::q2_k;
  static constexpr int kSize = 256;
  uint8_t scales[16];
  uint8_t qs[64];
  f16_t d;
  f16_t dmin;
};
static_assert(sizeof(BlockQ2_K) == 84 && offsetof(BlockQ2_K, qs) == 16 &&
              offsetof(BlockQ2_K, d) == 80 && offsetof(BlockQ2_K, dmin) == 82);

///  0 hmask: bit g of byte l is bit 2 of element 32 g + l
/// 32 qs: the low two bits, as in Q2_K
/// 96 scales: 16 scales of 6 bits, see unpack_q3_k_scales
/// 108 d                                                        value = d * (scale - 32) * (q - 4)
struct __attribute__((packed)) BlockQ3_K {
  static constexpr DType kType = DType::q3_k;
  static constexpr int kSize = 256;
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  f16_t d;
};
static_assert(sizeof(BlockQ3_K) == 110 && offsetof(BlockQ3_K, qs) == 32 &&
              offsetof(BlockQ3_K, scales) == 96 && offsetof(BlockQ3_K, d) == 108);

///  0 d | 2 dmin
///  4 scales: 8 scales and 8 minima of 6 bits, one of each for 32 elements, see unpack_k4_scales
/// 16 qs: 4 runs of 32 bytes; byte l of run r holds element 64 r + l (low nibble) and 64 r + 32 + l
///                                                              value = d * scale * q - dmin * min
struct __attribute__((packed)) BlockQ4_K {
  static constexpr DType kType = DType::q4_k;
  static constexpr int kSize = 256;
  f16_t d;
  f16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ4_K) == 144 && offsetof(BlockQ4_K, dmin) == 2 &&
              offsetof(BlockQ4_K, scales) == 4 && offsetof(BlockQ4_K, qs) == 16);

///  0 d | 2 dmin | 4 scales: as in Q4_K
/// 16 qh: bit g of byte l is bit 4 of element 32 g + l
/// 48 qs: the low nibbles, as in Q4_K                           value = d * scale * q - dmin * min
struct __attribute__((packed)) BlockQ5_K {
  static constexpr DType kType = DType::q5_k;
  static constexpr int kSize = 256;
  f16_t d;
  f16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ5_K) == 176 && offsetof(BlockQ5_K, dmin) == 2 &&
              offsetof(BlockQ5_K, scales) == 4 && offsetof(BlockQ5_K, qh) == 16 &&
              offsetof(BlockQ5_K, qs) == 48);

///   0 ql: 2 halves of 64 bytes, the low nibbles; byte l of half h holds elements 128 h + l (low)
///   and
///         128 h + 64 + l (high)
/// 128 qh: 2 halves of 32 bytes, the high two bits, placed as Q2_K places its two bits
/// 192 scales: 16 signed bytes, one for 16 elements
/// 208 d                                                        value = d * scale * (q - 32)
struct __attribute__((packed)) BlockQ6_K {
  static constexpr DType kType = DType::q6_k;
  static constexpr int kSize = 256;
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  f16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210 && offsetof(BlockQ6_K, qh) == 128 &&
              offsetof(BlockQ6_K, scales) == 192 && offsetof(BlockQ6_K, d) == 208);

///  0 d | 2 scales_h: bits 2 g, 2 g + 1 are bits 4, 5 of scale g
///  4 scales_l: the low nibbles of the 8 scales, the even one in the low bits
///  8 qs: 8 groups of 16 nibble pairs, each placed as in IQ4_NL
///                                                     value = d * (scale - 32) * kIq4NlValues[q]
struct __attribute__((packed)) BlockIQ4_XS {
  static constexpr DType kType = DType::iq4_xs;
  static constexpr int kSize = 256;
  f16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136 && offsetof(BlockIQ4_XS, scales_h) == 2 &&
              offsetof(BlockIQ4_XS, scales_l) == 4 && offsetof(BlockIQ4_XS, qs) == 8);

// ---- Codebook types: 256 elements, each 8 (or 4) of them an index into a grid -------------------
//
// A group is 32 elements, a run 8. Signs: bit i set negates element i of the run. Seven stored sign
// bits are completed by even_signs (codebooks.h).

///  0 d | 2 groups: 8 times { 4 bytes, the grid index of each run;
///        4 bytes: 4 x 7 sign bits from the lowest up, then the scale in the top 4 bits }
///                                                     value = d * (scale + 1/2) / 4 * +-grid
struct __attribute__((packed)) BlockIQ2_XXS {
  static constexpr DType kType = DType::iq2_xxs;
  static constexpr int kSize = 256;
  f16_t d;
  struct __attribute__((packed)) Group {
    uint8_t index[4];
    uint32_t signs_and_scale;
  };
  Group groups[8];
};
static_assert(sizeof(BlockIQ2_XXS) == 66 && offsetof(BlockIQ2_XXS, groups) == 2 &&
              offsetof(BlockIQ2_XXS::Group, signs_and_scale) == 4);

///  0 d | 2 qs: 32 runs: 9 bits of grid index, 7 sign bits above them
/// 66 scales: a byte per group: low nibble for its first 16 elements, high for the rest
///                                                     value = d * (scale + 1/2) / 4 * +-grid
struct __attribute__((packed)) BlockIQ2_XS {
  static constexpr DType kType = DType::iq2_xs;
  static constexpr int kSize = 256;
  f16_t d;
  uint16_t qs[32];
  uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_XS) == 74 && offsetof(BlockIQ2_XS, qs) == 2 &&
              offsetof(BlockIQ2_XS, scales) == 66);

///  0 d | 2 qs: 32 runs, the low 8 bits of the grid index | 34 signs: 32 runs
/// 66 qh: a byte per group, bits 2 l, 2 l + 1 are index bits 8, 9 of its run l
/// 74 scales: as in IQ2_XS                             value = d * (scale + 1/2) / 4 * +-grid
struct __attribute__((packed)) BlockIQ2_S {
  static constexpr DType kType = DType::iq2_s;
  static constexpr int kSize = 256;
  f16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_S) == 82 && offsetof(BlockIQ2_S, qs) == 2 &&
              offsetof(BlockIQ2_S, signs) == 34 && offsetof(BlockIQ2_S, qh) == 66 &&
              offsetof(BlockIQ2_S, scales) == 74);

///  0 d | 2 qs: 64 grid indices, one for 4 elements
/// 66 signs_and_scales: a word per group, as in IQ2_XXS: 4 x 7 sign bits, then 4 bits of scale
///                                                     value = d * (scale + 1/2) / 2 * +-grid
struct __attribute__((packed)) BlockIQ3_XXS {
  static constexpr DType kType = DType::iq3_xxs;
  static constexpr int kSize = 256;
  f16_t d;
  uint8_t qs[64];
  uint32_t signs_and_scales[8];
};
static_assert(sizeof(BlockIQ3_XXS) == 98 && offsetof(BlockIQ3_XXS, qs) == 2 &&
              offsetof(BlockIQ3_XXS, signs_and_scales) == 66);

///   0 d | 2 qs: 64 times the low 8 bits of the grid index of 4 elements
///  66 qh: a byte per group, bit k is index bit 8 of its k-th 4 elements
///  74 signs: 32 runs
/// 106 scales: a nibble per group, the even one in the low bits
///                                                     value = d * (1 + 2 scale) * +-grid
struct __attribute__((packed)) BlockIQ3_S {
  static constexpr DType kType = DType::iq3_s;
  static constexpr int kSize = 256;
  f16_t d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];
};
static_assert(sizeof(BlockIQ3_S) == 110 && offsetof(BlockIQ3_S, qs) == 2 &&
              offsetof(BlockIQ3_S, qh) == 66 && offsetof(BlockIQ3_S, signs) == 74 &&
              offsetof(BlockIQ3_S, scales) == 106);

///  0 d | 2 qs: 32 runs, the low 8 bits of the grid index
/// 34 qh: a word per group: bits 3 l to 3 l + 2 are index bits 8 to 10 of its run l; bits 12 to 14
///        the scale; bit 15 set makes delta -1/8 instead of +1/8
///                                                     value = d * (1 + 2 scale) * (grid + delta)
struct __attribute__((packed)) BlockIQ1_S {
  static constexpr DType kType = DType::iq1_s;
  static constexpr int kSize = 256;
  f16_t d;
  uint8_t qs[32];
  uint16_t qh[8];
};
static_assert(sizeof(BlockIQ1_S) == 50 && offsetof(BlockIQ1_S, qs) == 2 &&
              offsetof(BlockIQ1_S, qh) == 34);

///  0 qs: 32 runs, the low 8 bits of the grid index
/// 32 qh: a nibble per run, the even one in the low bits: index bits 8 to 10; bit 3 set makes delta
///        -1/8 instead of +1/8
/// 48 scales: 4 words, each with 4 scales of 3 bits (for 16 elements each, from the lowest bits up)
///        and a nibble of d in its top four bits, see iq1_m_scale
///                                                     value = d * (1 + 2 scale) * (grid + delta)
struct __attribute__((packed)) BlockIQ1_M {
  static constexpr DType kType = DType::iq1_m;
  static constexpr int kSize = 256;
  uint8_t qs[32];
  uint8_t qh[16];
  uint16_t scales[4];
};
static_assert(sizeof(BlockIQ1_M) == 56 && offsetof(BlockIQ1_M, qh) == 32 &&
              offsetof(BlockIQ1_M, scales) == 48);

// ---- Packed scales ------------------------------------------------------------------------------

/// Q4_K and Q5_K. Scales and minima 0 to 3 are the low 6 bits of bytes 0 to 3 and 4 to 7; of 4 to 7
/// the low nibbles lie in bytes 8 to 11 (scale low, minimum high) and the top two bits above the
/// former.
inline void unpack_k4_scales(const uint8_t* packed, uint8_t* scales, uint8_t* mins) {
  for (int i = 0; i < 4; ++i) {
    const uint8_t low = packed[8 + i];
    scales[i] = packed[i] & 63;
    mins[i] = packed[4 + i] & 63;
    scales[4 + i] = static_cast<uint8_t>((low & 15) | (packed[i] >> 6 << 4));
    mins[4 + i] = static_cast<uint8_t>((low >> 4) | (packed[4 + i] >> 6 << 4));
  }
}

/// Q3_K: scales 0 to 7 have their low nibbles in the low half of bytes 0 to 7, scales 8 to 15 in
/// the high half; bits 2 k, 2 k + 1 of byte 8 + i are the top two bits of scale 4 k + i. 0 to 63,
/// the offset of 32 still in them.
inline void unpack_q3_k_scales(const uint8_t* packed, uint8_t* scales) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = (packed[8 + i % 4] >> (i / 4 * 2)) & 3;
    scales[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

/// IQ1_M keeps its f16 scale in the top nibbles of the four scale words, lowest nibble first.
inline f16_t iq1_m_scale(const BlockIQ1_M& block) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) {
    bits |= static_cast<uint32_t>(block.scales[i] >> 12) << (4 * i);
  }
  return static_cast<f16_t>(bits);
}

/// MXFP4's exponent, halved: 2^(e - 128), exactly, subnormal for e = 0 and 1. The format's NaN
/// (255) is read as an ordinary exponent, as llama.cpp does.
inline float e8m0_half(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

}  // namespace hybrid
