#pragma once
// Reads panels on a device: panel_reader-inl.h for one row at a time, which is what a thread holds.
//
// The layout is the CPU's (panel.h): vector i of a unit has dword i of each of 16 rows, so 16
// lanes with a row each read 64 bytes side by side, and a row's scales lie in its own lane. A
// quantised weight is
//
//   weight = scale * q - minimum          q a byte, signed if kSigned
//
// with one scale and minimum for each kScaleCols (16 or 32) columns. A part is 128 columns:
//
//   PanelReader<type> reader(lane, part, grids);     lane: the panel's bytes + 4 * row
//   reader.quad(g, i)        bytes q of columns 32 g + 4 i .. + 3 of the part, g in 0..3, i in 0..7
//   reader.scale(s)          of columns kScaleCols * s .. of the part
//   reader.minimum(s)        or kOffset: minimum = scale * kOffset
//
// Float types have reader.four(g, i, w) instead, and kIsFloat. four_of() serves all types. Columns
// past the end of the matrix, rounded up to 32, must not be asked for.
//
// This file: F32, F16, BF16 and the types of 32 columns; _k_ and _iq_ have the others.

#include "tensor/codebooks.h"
#include "tensor/dtype.h"
#include "tensor/grid_tables.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kPartCols = 128;  // columns of a part
inline constexpr int kPartGroups = kPartCols / 32;
inline constexpr int kLaneVectorBytes = 64;

template <DType type>
struct PanelReader;

/// A row's dwords, from `base` on.
struct LaneDwords {
  const std::byte* base;

  HYBRID_DEVICE LaneDwords(const std::byte* lane, uint64_t first_vector)
      : base(lane + first_vector * kLaneVectorBytes) {}
  HYBRID_DEVICE uint32_t vector(int i) const {
    return load_weight(reinterpret_cast<const uint32_t*>(base + i * kLaneVectorBytes));
  }
};

HYBRID_DEVICE float half_at(uint32_t x, int k) {
  return half_to_float(static_cast<f16_t>(x >> (16 * k)));
}
HYBRID_DEVICE uint32_t byte_at(uint32_t x, int k) { return x >> (8 * k) & 255; }
HYBRID_DEVICE uint32_t bits_at(uint32_t x, int at, int n) { return x >> at & ((1u << n) - 1); }
HYBRID_DEVICE uint32_t nibbles(uint32_t x, int high) { return x >> (4 * high) & 0x0f0f0f0fu; }

/// Bit b of four bits becomes bit 0 of byte b.
HYBRID_DEVICE uint32_t spread_bits(uint32_t four) { return four * 0x00204081u & 0x01010101u; }

/// 16 signed values as four words, for look_up().
struct ByteTable {
  uint32_t words[4];

  constexpr explicit ByteTable(const std::array<int8_t, 16>& values) : words{} {
    for (size_t i = 0; i < 16; ++i) {
      words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(values[i])) << (8 * (i % 4));
    }
  }
};

inline constexpr ByteTable kIq4NlTable(kIq4NlValues), kMxfp4Table(kMxfp4Values);

/// values[q] of each byte q (0 to 15). PRMT chooses from eight bytes, so twice and then by bit 3.
template <uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3>
HYBRID_DEVICE uint32_t look_up_words(uint32_t q) {
  const uint32_t pairs = q | q >> 4;  // bytes 0 and 2 hold two selectors each
  const uint32_t selector = byte_perm(pairs, 0, 0x4420) & 0x7777u;
  const uint32_t low = byte_perm(w0, w1, selector), high = byte_perm(w2, w3, selector);
  const uint32_t is_high = (q >> 3 & 0x01010101u) * 255u;
  return (low & ~is_high) | (high & is_high);
}
HYBRID_DEVICE uint32_t look_up_iq4_nl(uint32_t q) {
  return look_up_words<kIq4NlTable.words[0], kIq4NlTable.words[1], kIq4NlTable.words[2],
                       kIq4NlTable.words[3]>(q);
}
HYBRID_DEVICE uint32_t look_up_mxfp4(uint32_t q) {
  return look_up_words<kMxfp4Table.words[0], kMxfp4Table.words[1], kMxfp4Table.words[2],
                       kMxfp4Table.words[3]>(q);
}

// ---- floats -------------------------------------------------------------------------------------

template <>
struct PanelReader<DType::f32> : LaneDwords {
  static constexpr bool kIsFloat = true;
  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * kPartCols) {}
  HYBRID_DEVICE void four(int g, int i, float (&w)[4]) const {
    for (int k = 0; k < 4; ++k) w[k] = bits_to_float(vector(32 * g + 4 * i + k));
  }
};

template <>
struct PanelReader<DType::f16> : LaneDwords {
  static constexpr bool kIsFloat = true;
  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * (kPartCols / 2)) {}
  /// Four columns lie in the order 0 2 1 3.
  HYBRID_DEVICE void four(int g, int i, float (&w)[4]) const {
    const uint32_t even = vector(16 * g + 2 * i), odd = vector(16 * g + 2 * i + 1);
    w[0] = half_at(even, 0);
    w[1] = half_at(odd, 0);
    w[2] = half_at(even, 1);
    w[3] = half_at(odd, 1);
  }
};

template <>
struct PanelReader<DType::bf16> : LaneDwords {
  static constexpr bool kIsFloat = true;
  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * (kPartCols / 2)) {}
  HYBRID_DEVICE void four(int g, int i, float (&w)[4]) const {
    const uint32_t even = vector(16 * g + 2 * i), odd = vector(16 * g + 2 * i + 1);
    w[0] = bits_to_float(even << 16);
    w[1] = bits_to_float(odd << 16);
    w[2] = bits_to_float(even & 0xffff0000u);
    w[3] = bits_to_float(odd & 0xffff0000u);
  }
};

// ---- 32 columns and a scale ---------------------------------------------------------------------

/// Units of two blocks (64 columns) whose f16 scales share the first vector.
template <int kBlockVectors, int kZeroPoint>
struct PairPanelReader : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr int kScaleCols = 32;
  static constexpr int kOffset = kZeroPoint;
  static constexpr int kUnitVectors = 1 + 2 * kBlockVectors;

  HYBRID_DEVICE PairPanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * 2 * kUnitVectors) {}
  HYBRID_DEVICE uint32_t of_block(int g, int i) const {
    return vector(g / 2 * kUnitVectors + 1 + g % 2 * kBlockVectors + i);
  }
  HYBRID_DEVICE float scale(int g) const { return half_at(vector(g / 2 * kUnitVectors), g % 2); }
};

/// Units of one block with a scale d and a minimum m, which is added in these formats.
template <int kUnitVectors>
struct ScaleMinPanelReader : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 32;

  HYBRID_DEVICE ScaleMinPanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * kPartGroups * kUnitVectors) {}
  HYBRID_DEVICE uint32_t of_block(int g, int i) const { return vector(g * kUnitVectors + i); }
  HYBRID_DEVICE float scale(int g) const { return half_at(of_block(g, 0), 0); }
  HYBRID_DEVICE float minimum(int g) const { return -half_at(of_block(g, 0), 1); }
};

/// 0x10 in byte b where bit 4 i + b is set.
HYBRID_DEVICE uint32_t fifth_bits(uint32_t bits, int i) {
  return spread_bits(bits_at(bits, 4 * i, 4)) << 4;
}

template <>
struct PanelReader<DType::q4_0> : PairPanelReader<4, 8> {
  using PairPanelReader::PairPanelReader;
  static constexpr bool kSigned = false;
  HYBRID_DEVICE uint32_t quad(int g, int i) const { return nibbles(of_block(g, i % 4), i / 4); }
};

template <>
struct PanelReader<DType::iq4_nl> : PairPanelReader<4, 0> {
  using PairPanelReader::PairPanelReader;
  static constexpr bool kSigned = true;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return look_up_iq4_nl(nibbles(of_block(g, i % 4), i / 4));
  }
};

template <>
struct PanelReader<DType::q5_0> : PairPanelReader<5, 16> {
  using PairPanelReader::PairPanelReader;
  static constexpr bool kSigned = false;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return nibbles(of_block(g, 1 + i % 4), i / 4) | fifth_bits(of_block(g, 0), i);
  }
};

template <>
struct PanelReader<DType::q8_0> : PairPanelReader<8, 0> {
  using PairPanelReader::PairPanelReader;
  static constexpr bool kSigned = true;
  HYBRID_DEVICE uint32_t quad(int g, int i) const { return of_block(g, i); }
};

template <>
struct PanelReader<DType::q4_1> : ScaleMinPanelReader<5> {
  using ScaleMinPanelReader::ScaleMinPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const { return nibbles(of_block(g, 1 + i % 4), i / 4); }
};

template <>
struct PanelReader<DType::q5_1> : ScaleMinPanelReader<6> {
  using ScaleMinPanelReader::ScaleMinPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return nibbles(of_block(g, 2 + i % 4), i / 4) | fifth_bits(of_block(g, 1), i);
  }
};

template <>
struct PanelReader<DType::mxfp4> : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = true;
  static constexpr int kScaleCols = 32;
  static constexpr int kOffset = 0;
  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part} * 17) {}
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return look_up_mxfp4(nibbles(vector(1 + 4 * g + i % 4), i / 4));
  }
  /// 2^(e - 128), but 0 for e < 2, where it would be subnormal.
  HYBRID_DEVICE float scale(int g) const {
    return bits_to_float((larger(byte_at(vector(0), g), 1u) - 1) << 23);
  }
};

// ---- all types ----------------------------------------------------------------------------------

template <class Reader>
HYBRID_DEVICE constexpr bool has_minimum() {
  if constexpr (requires { Reader::kOffset; }) return Reader::kOffset != 0;
  return true;
}

template <class Reader>
HYBRID_DEVICE float minimum_of(const Reader& reader, [[maybe_unused]] float scale,
                               [[maybe_unused]] int s) {
  if constexpr (requires { Reader::kOffset; }) {
    return scale * static_cast<float>(Reader::kOffset);
  } else {
    return reader.minimum(s);
  }
}

/// Byte k as a float: the low bits of 2^23 + q, so no conversion, which runs at a quarter rate.
template <bool kSigned>
HYBRID_DEVICE float number_at(uint32_t quad, int k) {
  const uint32_t q = kSigned ? quad ^ 0x80808080u : quad;
  const float biased = bits_to_float(byte_perm(q, 0x4b000000u, 0x7540u + static_cast<uint32_t>(k)));
  return biased - (kSigned ? 8388736.0f : 8388608.0f);
}

/// The scale and minimum of a row's 16 or 32 columns, kept over four_of() calls.
struct ScaleOfRow {
  float scale = 0, minimum = 0;

  template <class Reader>
  HYBRID_DEVICE void set(const Reader& reader, int g, int half) {
    if constexpr (!Reader::kIsFloat) {
      if (Reader::kScaleCols == 32 && half == 1) return;
      const int s = Reader::kScaleCols == 32 ? g : 2 * g + half;
      scale = reader.scale(s);
      minimum = minimum_of(reader, scale, s);
    }
  }
};

/// Weights of columns 32 g + 4 i .. + 3.
template <class Reader>
HYBRID_DEVICE void four_of(const Reader& reader, const ScaleOfRow& s, int g, int i, float (&w)[4]) {
  if constexpr (Reader::kIsFloat) {
    reader.four(g, i, w);
  } else {
    const uint32_t quad = reader.quad(g, i);
    for (int k = 0; k < 4; ++k) {
      w[k] = fmaf(s.scale, number_at<Reader::kSigned>(quad, k), -s.minimum);
    }
  }
}

}  // namespace hybrid::cuda
