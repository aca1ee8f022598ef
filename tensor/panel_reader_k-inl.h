#pragma once
// Panels of the K types and IQ4_XS (256 elements and small scales in a block), see
// panel_reader-inl.h. Vectors of their units:
//
//   Q2_K     256 columns   0 scales (4)   4 two bits (16)   20 d|dmin                      21 in
//   all Q4_K     256           0 d|dmin   1 scales (3)   4 nibble pairs (32)                    36
//   Q5_K     256           0 d|dmin   1 scales (3)   4 fifth bits (8)   12 nibble pairs (32)   44
//   IQ4_XS   256           0 d|high bits of the scales   1 low nibbles   2 nibble pairs (32)   34
//   Q3_K     512           0 d0|d1, then for each block: third bits (8), two bits (16), scales (3)
//   55 Q6_K     512           0 d0|d1, then for each block: low nibbles (32), high bits (16),
//   scales (4)  105
//
// The order within the fields is the block's own (quant_blocks.h).

#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid::internal {
namespace {

/// The 6-bit scales and minima of Q4_K and Q5_K in bytes: [0] of groups 0 to 3, [1] of 4 to 7.
template <SimdLevel L, int kVectors>
struct SixBitReader : UnitReader<L, 256, kVectors> {
  using Base = UnitReader<L, 256, kVectors>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 32;

  HYBRID_INLINE explicit SixBitReader(const std::byte* panel, uint64_t block) : Base(panel, block) {
    const Int head = this->vector(0, 0);
    d = Base::half(head, 0);
    dmin = Base::half(head, 1);
    const Int first = this->vector(0, 1), second = this->vector(0, 2), low = this->vector(0, 3);
    scales[0] = V::bit_and(first, V::set(0x3f3f3f3f));
    minima[0] = V::bit_and(second, V::set(0x3f3f3f3f));
    scales[1] = V::bit_or(Base::nibbles(low, 0), top_bits(first));
    minima[1] = V::bit_or(Base::nibbles(low, 1), top_bits(second));
  }
  HYBRID_INLINE static Int top_bits(Int x) {
    return V::bit_and(V::shift_right(x, 2), V::set(0x30303030));
  }
  HYBRID_INLINE Float scale(int g) const {
    return V::multiply(d, V::to_float(Base::byte(scales[g / 4], g % 4)));
  }
  HYBRID_INLINE Float minimum(int g) const {
    return V::multiply(dmin, V::to_float(Base::byte(minima[g / 4], g % 4)));
  }

  Float d, dmin;
  Int scales[2], minima[2];
};

template <SimdLevel L>
struct PanelReader<L, DType::q4_k> : SixBitReader<L, 36> {
  using SixBitReader<L, 36>::SixBitReader;
  static constexpr int kMaxQ = 15;
  static constexpr auto kValues = nibble_values(0);
  HYBRID_INLINE auto packed(int g, int i) const { return this->vector(g, 4 + g / 2 * 8 + i); }
  HYBRID_INLINE static bool is_high(int g, int) { return g % 2; }
  HYBRID_INLINE auto quad(int g, int i) const { return this->nibbles(packed(g, i), g % 2); }
};

template <SimdLevel L>
struct PanelReader<L, DType::q5_k> : SixBitReader<L, 44> {
  using SixBitReader<L, 44>::SixBitReader;
  static constexpr int kMaxQ = 31;
  HYBRID_INLINE auto quad(int g, int i) const {
    using V = Lanes<L>;
    const auto fifth = this->vector(g, 4 + i);
    const auto bit = V::bit_and(g < 4 ? V::shift_left(fifth, 4 - g) : V::shift_right(fifth, g - 4),
                                V::set(0x10101010));
    return V::bit_or(this->nibbles(this->vector(g, 12 + g / 2 * 8 + i), g % 2), bit);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq4_xs> : UnitReader<L, 256, 34> {
  using Base = UnitReader<L, 256, 34>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 32;
  static constexpr int kMaxQ = 255;
  static constexpr int kOffset = 128;

  HYBRID_INLINE explicit PanelReader(const std::byte* panel, uint64_t block) : Base(panel, block) {
    const Int head = this->vector(0, 0);
    d = Base::half(head, 0);
    high = V::shift_right(head, 16);
    low = this->vector(0, 1);
  }
  static constexpr auto kValues = kIq4NlValues;
  HYBRID_INLINE Int packed(int g, int i) const { return this->vector(g, 2 + 4 * g + i % 4); }
  HYBRID_INLINE static bool is_high(int, int i) { return i >= 4; }
  HYBRID_INLINE Int quad(int g, int i) const {
    return V::look_up(Base::nibbles(packed(g, i), i / 4), kIq4NlBytes.values);
  }
  HYBRID_INLINE Float scale(int g) const {
    const Int bits =
        V::bit_or(V::bit_and(V::shift_right(low, 4 * g), V::set(15)),
                  V::shift_left(V::bit_and(V::shift_right(high, 2 * g), V::set(3)), 4));
    return V::multiply(d, V::to_float(V::add(bits, V::set(static_cast<uint32_t>(-32)))));
  }

  Float d;
  Int high, low;
};

template <SimdLevel L>
struct PanelReader<L, DType::q2_k> : UnitReader<L, 256, 21> {
  using Base = UnitReader<L, 256, 21>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 16;
  static constexpr int kMaxQ = 3;

  HYBRID_INLINE explicit PanelReader(const std::byte* panel, uint64_t block) : Base(panel, block) {
    const Int head = this->vector(0, 20);
    d = Base::half(head, 0);
    dmin = Base::half(head, 1);
  }
  HYBRID_INLINE Int quad(int g, int i) const {
    const Int pairs = this->vector(g, 4 + g / 4 * 8 + i);
    return V::bit_and(V::shift_right(pairs, g % 4 * 2), V::set(0x03030303));
  }
  HYBRID_INLINE Float scale(int s) const {
    return V::multiply(d, V::to_float(Base::byte(Base::nibbles(this->vector(0, s / 4), 0), s % 4)));
  }
  HYBRID_INLINE Float minimum(int s) const {
    return V::multiply(dmin,
                       V::to_float(Base::byte(Base::nibbles(this->vector(0, s / 4), 1), s % 4)));
  }

  Float d, dmin;
};

/// Units of two blocks of 256 columns whose f16 scales share the first vector.
template <SimdLevel L, int kBlockVectors>
struct TwoBlockReader {
  using V = Lanes<L>;
  using Int = typename V::Int;
  using Float = typename V::Float;
  using Unit = UnitReader<L, 512, 1 + 2 * kBlockVectors>;
  static constexpr int kBlockBytes = Unit::kBlockBytes;
  static constexpr int kPeriod = kGroups;

  HYBRID_INLINE explicit TwoBlockReader(const std::byte* panel, uint64_t block)
      : base(panel + block / 2 * (1 + 2 * kBlockVectors) * kVectorBytes) {
    const Int head = V::load(base);
    d = block % 2 ? Unit::half(head, 1) : Unit::half(head, 0);
    base += (1 + block % 2 * kBlockVectors) * kVectorBytes;
  }
  HYBRID_INLINE Int vector(int i) const {
    return V::load(base + static_cast<uint64_t>(i) * kVectorBytes);
  }

  const std::byte* base;  // of the block's fields
  Float d;
};

template <SimdLevel L>
struct PanelReader<L, DType::q3_k> : TwoBlockReader<L, 27> {
  using Base = TwoBlockReader<L, 27>;
  using typename Base::Float;
  using typename Base::Int;
  using typename Base::Unit;
  using V = Lanes<L>;
  using Base::Base;
  static constexpr int kScaleCols = 16;
  static constexpr int kMaxQ = 7;
  static constexpr int kOffset = 4;

  HYBRID_INLINE Int quad(int g, int i) const {
    const Int low =
        V::bit_and(V::shift_right(this->vector(8 + g / 4 * 8 + i), g % 4 * 2), V::set(0x03030303));
    const Int third = this->vector(i);
    const Int high = V::bit_and(g < 2 ? V::shift_left(third, 2 - g) : V::shift_right(third, g - 2),
                                V::set(0x04040404));
    return V::bit_or(low, high);
  }
  HYBRID_INLINE Float scale(int s) const {
    const Int low = Unit::byte(Unit::nibbles(this->vector(24 + s / 4 % 2), s / 8), s % 4);
    const Int high = V::bit_and(V::shift_right(this->vector(26), s % 4 * 8 + s / 4 * 2), V::set(3));
    const Int bits = V::bit_or(low, V::shift_left(high, 4));
    return V::multiply(this->d, V::to_float(V::add(bits, V::set(static_cast<uint32_t>(-32)))));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::q6_k> : TwoBlockReader<L, 52> {
  using Base = TwoBlockReader<L, 52>;
  using typename Base::Float;
  using typename Base::Int;
  using typename Base::Unit;
  using V = Lanes<L>;
  using Base::Base;
  static constexpr int kScaleCols = 16;
  static constexpr int kMaxQ = 63;
  static constexpr int kOffset = 32;

  HYBRID_INLINE Int quad(int g, int i) const {
    const int half = g / 4, part = g % 4;
    const Int low = Unit::nibbles(this->vector(16 * half + 8 * (part % 2) + i), part / 2);
    const Int bits = this->vector(32 + 8 * half + i);
    const Int high = V::bit_and(
        part < 2 ? V::shift_left(bits, 4 - 2 * part) : V::shift_right(bits, 2 * part - 4),
        V::set(0x30303030));
    return V::bit_or(low, high);
  }
  HYBRID_INLINE Float scale(int s) const {
    const Int bytes = this->vector(48 + s / 4);
    const Int number = V::shift_right_signed(V::shift_left(bytes, 24 - s % 4 * 8), 24);
    return V::multiply(this->d, V::to_float(number));
  }
};

using KTypes =
    TypeList<DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs>;

}  // namespace
}  // namespace hybrid::internal
