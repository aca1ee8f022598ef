#pragma once
// Panels of the types with 32 elements and one scale in a block, see panel_reader-inl.h. Vectors of
// their units ("d0|d1": one word each, in one vector):
//
//   Q4_0, IQ4_NL   64 columns   0 d0|d1   1 nibble pairs of block 0   5 of block 1          9 in
//   all Q5_0           64           0 d0|d1   1 fifth bits, 2 nibble pairs of block 0   6, 7 of
//   block 1   11 Q8_0           64           0 d0|d1   1 bytes of block 0          9 of block 1 17
//   Q4_1           32           0 d|m     1 nibble pairs                                    5
//   Q5_1           32           0 d|m     1 fifth bits   2 nibble pairs                     6
//   MXFP4         128           0 e0|e1|e2|e3   1, 5, 9, 13 nibble pairs of each block     17

#include "tensor/panel_reader-inl.h"

namespace hybrid::internal {
namespace {

/// A table of signed values made unsigned by an offset.
struct ByteTable {
  alignas(16) uint8_t values[16];

  constexpr ByteTable(const std::array<int8_t, 16>& table, int offset) : values{} {
    for (int i = 0; i < 16; ++i) values[i] = static_cast<uint8_t>(table[i] + offset);
  }
};
inline constexpr ByteTable kIq4NlBytes(kIq4NlValues, 128);
inline constexpr ByteTable kMxfp4Bytes(kMxfp4Values, 16);

/// Units of two blocks whose f16 scales share the first vector.
template <SimdLevel L, int kBlockVectors, int kZeroPoint>
struct PairReader : UnitReader<L, 64, 1 + 2 * kBlockVectors> {
  using Base = UnitReader<L, 64, 1 + 2 * kBlockVectors>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 32;
  static constexpr int kOffset = kZeroPoint;
  using Base::Base;

  /// Vector i of the block of group g.
  HYBRID_INLINE Int of_block(int g, int i) const {
    return this->vector(g, 1 + g % 2 * kBlockVectors + i);
  }
  HYBRID_INLINE Float scale(int g) const { return Base::half(scale_halves(g), g % 2); }
  HYBRID_INLINE Int scale_halves(int g) const { return this->vector(g, 0); }
};

/// Units of one block with a scale d and a minimum m, which is added in these formats.
template <SimdLevel L, int kVectors>
struct ScaleMinReader : UnitReader<L, 32, kVectors> {
  using Base = UnitReader<L, 32, kVectors>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 32;
  using Base::Base;

  HYBRID_INLINE Float scale(int g) const { return Base::half(this->vector(g, 0), 0); }
  HYBRID_INLINE Float minimum(int g) const {
    return V::multiply(Base::half(this->vector(g, 0), 1), V::set_float(-1));
  }
};

/// 0x10 in byte b of a lane where bit 4 i + b of the lane's dword is set.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int fifth_bits(typename Lanes<L>::Int bits, int i) {
  using V = Lanes<L>;
  const auto mask = V::bytes_with(V::spread_byte(bits, i / 2), i % 2 ? 0x80402010 : 0x08040201);
  return V::bit_and(mask, V::set(0x10101010));
}

template <SimdLevel L>
struct PanelReader<L, DType::q4_0> : PairReader<L, 4, 8> {
  using PairReader<L, 4, 8>::PairReader;
  static constexpr int kMaxQ = 15;
  static constexpr auto kValues = nibble_values(8);
  HYBRID_INLINE auto packed(int g, int i) const { return this->of_block(g, i % 4); }
  HYBRID_INLINE static bool is_high(int, int i) { return i >= 4; }
  HYBRID_INLINE auto quad(int g, int i) const { return this->nibbles(packed(g, i), i / 4); }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq4_nl> : PairReader<L, 4, 128> {
  using PairReader<L, 4, 128>::PairReader;
  static constexpr int kMaxQ = 255;
  static constexpr auto kValues = kIq4NlValues;
  HYBRID_INLINE auto packed(int g, int i) const { return this->of_block(g, i % 4); }
  HYBRID_INLINE static bool is_high(int, int i) { return i >= 4; }
  HYBRID_INLINE auto quad(int g, int i) const {
    return Lanes<L>::look_up(this->nibbles(packed(g, i), i / 4), kIq4NlBytes.values);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::q5_0> : PairReader<L, 5, 16> {
  using PairReader<L, 5, 16>::PairReader;
  static constexpr int kMaxQ = 31;
  HYBRID_INLINE auto quad(int g, int i) const {
    return Lanes<L>::bit_or(this->nibbles(this->of_block(g, 1 + i % 4), i / 4),
                            fifth_bits<L>(this->of_block(g, 0), i));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::q8_0> : PairReader<L, 8, 128> {
  using PairReader<L, 8, 128>::PairReader;
  static constexpr int kMaxQ = 255;
  HYBRID_INLINE auto quad(int g, int i) const {
    return Lanes<L>::bit_xor(this->of_block(g, i), Lanes<L>::set(0x80808080));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::q4_1> : ScaleMinReader<L, 5> {
  using ScaleMinReader<L, 5>::ScaleMinReader;
  static constexpr int kMaxQ = 15;
  static constexpr auto kValues = nibble_values(0);
  HYBRID_INLINE auto packed(int g, int i) const { return this->vector(g, 1 + i % 4); }
  HYBRID_INLINE static bool is_high(int, int i) { return i >= 4; }
  HYBRID_INLINE auto quad(int g, int i) const { return this->nibbles(packed(g, i), i / 4); }
};

template <SimdLevel L>
struct PanelReader<L, DType::q5_1> : ScaleMinReader<L, 6> {
  using ScaleMinReader<L, 6>::ScaleMinReader;
  static constexpr int kMaxQ = 31;
  HYBRID_INLINE auto quad(int g, int i) const {
    return Lanes<L>::bit_or(this->nibbles(this->vector(g, 2 + i % 4), i / 4),
                            fifth_bits<L>(this->vector(g, 1), i));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::mxfp4> : UnitReader<L, 128, 17> {
  using Base = UnitReader<L, 128, 17>;
  using V = Lanes<L>;
  using Base::Base;
  static constexpr int kScaleCols = 32;
  static constexpr int kMaxQ = 31;
  static constexpr int kOffset = 16;
  static constexpr auto kValues = kMxfp4Values;
  HYBRID_INLINE auto packed(int g, int i) const { return this->vector(g, 1 + g % 4 * 4 + i % 4); }
  HYBRID_INLINE static bool is_high(int, int i) { return i >= 4; }
  HYBRID_INLINE auto quad(int g, int i) const {
    return V::look_up(this->nibbles(packed(g, i), i / 4), kMxfp4Bytes.values);
  }
  /// 2^(e - 128), but 0 for e < 2, where it would be subnormal.
  HYBRID_INLINE auto scale(int g) const {
    const auto e = V::larger(this->byte(this->vector(g, 0), g % 4), V::set(1));
    return V::as_float(V::shift_left(V::add(e, V::set(0xffffffff)), 23));
  }
};

using LegacyTypes = TypeList<DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                             DType::iq4_nl, DType::mxfp4>;

}  // namespace
}  // namespace hybrid::internal
