#pragma once
// Panels of the codebook types, see panel_reader-inl.h. A run is 8 elements, a group 4 runs. Units
// hold two blocks (512 columns), IQ1_M's one; vectors of a block's fields after the d0|d1 vector:
//
//   IQ2_XXS   for each group: grid indexes, signs and scale                                    16
//   IQ2_XS    two runs' index and signs (16)   scales (2)                                      18
//   IQ2_S     low index bytes (8)   signs (8)   high index bits (2)   scales (2)               20
//   IQ3_XXS   index bytes (16)   signs and scales (8)                                          24
//   IQ3_S     low index bytes (16)   high index bits (2)   signs (8)   scales (1)              27
//   IQ1_S     low index bytes (8)   high index bits, scale and delta (4)                       12
//   IQ1_M     low index bytes (8)   high index bits and delta (4)   scales and d (2)           14
//
// Signed grid values are offset by 64. IQ1's (grid + delta) is taken as (8 grid +- 1) / 8.

#include "tensor/panel_reader_k-inl.h"

namespace hybrid::internal {
namespace {

/// Magnitudes negated where bit b of `signs` (its byte k, low or high nibble) is set, plus 64.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int signed_quad(typename Lanes<L>::Int magnitudes,
                                                 typename Lanes<L>::Int signs, int k, int half) {
  using V = Lanes<L>;
  const auto negative = V::bytes_with(V::spread_byte(signs, k), half ? 0x80402010 : 0x08040201);
  return V::add_bytes(V::sub_bytes(V::bit_xor(magnitudes, negative), negative), V::set(0x40404040));
}

/// The eighth sign bit that makes the number of signs even, added to seven in each lane.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int even_sign_bits(typename Lanes<L>::Int seven) {
  using V = Lanes<L>;
  auto parity = V::bit_xor(seven, V::shift_right(seven, 4));
  parity = V::bit_xor(parity, V::shift_right(parity, 2));
  parity = V::bit_xor(parity, V::shift_right(parity, 1));
  return V::bit_or(seven, V::shift_left(V::bit_and(parity, V::set(1)), 7));
}

/// Dword `half` of 64-bit grid entries.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int grid_half(const uint64_t* grid, typename Lanes<L>::Int index,
                                               int half) {
  using V = Lanes<L>;
  return V::gather(grid, V::add(V::add(index, index), V::set(static_cast<uint32_t>(half))));
}

template <SimdLevel L, int kBlockVectors, int kColumnsOfScale>
struct GridReader : TwoBlockReader<L, kBlockVectors> {
  using Base = TwoBlockReader<L, kBlockVectors>;
  using typename Base::Float;
  using typename Base::Int;
  using typename Base::Unit;
  using V = Lanes<L>;
  using Base::Base;
  static constexpr int kScaleCols = kColumnsOfScale;
  static constexpr bool kGathers = true;
  static constexpr int kPeriod = 1;  // but for shifts of scales, which show beside no gather
  static constexpr int kMaxQ = 127;
  static constexpr int kOffset = 64;

  /// Bits [at, at + n) of each lane.
  HYBRID_INLINE static Int bits(Int x, int at, int n) {
    return V::bit_and(V::shift_right(x, at), V::set((1u << n) - 1));
  }
  /// d * (number + 1/2) * unit
  HYBRID_INLINE Float fractional(Int number, float unit) const {
    const Float half = V::add_float(V::to_float(number), V::set_float(0.5f));
    return V::multiply(V::multiply(this->d, half), V::set_float(unit));
  }
  /// d * (2 * number + 1)
  HYBRID_INLINE Float odd(Int number) const {
    return V::multiply(this->d, V::to_float(V::add(V::add(number, number), V::set(1))));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq2_xxs> : GridReader<L, 16, 32> {
  using GridReader<L, 16, 32>::GridReader;
  HYBRID_INLINE auto quad(int g, int i) const {
    const auto index = this->bits(this->vector(2 * g), i / 2 * 8, 8);
    const auto signs = this->bits(this->vector(2 * g + 1), i / 2 * 7, 7);
    return signed_quad<L>(grid_half<L>(kIq2XxsGrid.data(), index, i % 2), even_sign_bits<L>(signs),
                          0, i % 2);
  }
  HYBRID_INLINE auto scale(int g) const {
    return this->fractional(this->bits(this->vector(2 * g + 1), 28, 4), 0.25f);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq2_xs> : GridReader<L, 18, 16> {
  using GridReader<L, 18, 16>::GridReader;
  HYBRID_INLINE auto quad(int g, int i) const {
    const auto runs = this->vector(2 * g + i / 4);
    const int word = i / 2 % 2 * 16;
    const auto signs = even_sign_bits<L>(this->bits(runs, word + 9, 7));
    return signed_quad<L>(grid_half<L>(kIq2XsGrid.data(), this->bits(runs, word, 9), i % 2), signs,
                          0, i % 2);
  }
  HYBRID_INLINE auto scale(int s) const {
    return this->fractional(this->bits(this->vector(16 + s / 8), s % 8 * 4, 4), 0.25f);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq2_s> : GridReader<L, 20, 16> {
  using GridReader<L, 20, 16>::GridReader;
  static constexpr int kPeriod = 4;
  HYBRID_INLINE auto quad(int g, int i) const {
    using V = Lanes<L>;
    const int run = i / 2;
    const auto high = this->bits(this->vector(16 + g / 4), g % 4 * 8 + 2 * run, 2);
    const auto index = V::bit_or(this->bits(this->vector(g), 8 * run, 8), V::shift_left(high, 8));
    return signed_quad<L>(grid_half<L>(kIq2SGrid.data(), index, i % 2), this->vector(8 + g), run,
                          i % 2);
  }
  HYBRID_INLINE auto scale(int s) const {
    return this->fractional(this->bits(this->vector(18 + s / 8), s % 8 * 4, 4), 0.25f);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq3_xxs> : GridReader<L, 24, 32> {
  using GridReader<L, 24, 32>::GridReader;
  HYBRID_INLINE auto quad(int g, int i) const {
    using V = Lanes<L>;
    const auto index = this->bits(this->vector(2 * g + i / 4), i % 4 * 8, 8);
    const auto signs = this->bits(this->vector(16 + g), i / 2 * 7, 7);
    return signed_quad<L>(V::gather(kIq3XxsGrid.data(), index), even_sign_bits<L>(signs), 0, i % 2);
  }
  HYBRID_INLINE auto scale(int g) const {
    return this->fractional(this->bits(this->vector(16 + g), 28, 4), 0.5f);
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq3_s> : GridReader<L, 27, 32> {
  using GridReader<L, 27, 32>::GridReader;
  static constexpr int kPeriod = 4;
  HYBRID_INLINE auto quad(int g, int i) const {
    using V = Lanes<L>;
    const auto high = this->bits(this->vector(16 + g / 4), g % 4 * 8 + i, 1);
    const auto index =
        V::bit_or(this->bits(this->vector(2 * g + i / 4), i % 4 * 8, 8), V::shift_left(high, 8));
    return signed_quad<L>(V::gather(kIq3SGrid.data(), index), this->vector(18 + g), i / 2, i % 2);
  }
  HYBRID_INLINE auto scale(int g) const {
    return this->odd(this->bits(this->vector(26), 4 * g, 4));
  }
};

/// 8 * grid plus 17, or 15 where the lane's `negative` is not 0 (it is 0 or 2), in each byte.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int ternary_quad(typename Lanes<L>::Int index,
                                                  typename Lanes<L>::Int negative, int half) {
  using V = Lanes<L>;
  const auto eight =
      V::bit_and(V::shift_left(grid_half<L>(kIq1Grid.data(), index, half), 3), V::set(0xf8f8f8f8));
  return V::add_bytes(eight, V::sub_bytes(V::set(0x11111111), V::spread_byte(negative, 0)));
}

template <SimdLevel L>
struct PanelReader<L, DType::iq1_s> : GridReader<L, 12, 32> {
  using GridReader<L, 12, 32>::GridReader;
  static constexpr int kPeriod = 2;
  static constexpr int kMaxQ = 31;
  static constexpr int kOffset = 16;
  HYBRID_INLINE auto quad(int g, int i) const {
    using V = Lanes<L>;
    const auto words = this->vector(8 + g / 2);
    const int at = g % 2 * 16, run = i / 2;
    const auto index = V::bit_or(this->bits(this->vector(g), 8 * run, 8),
                                 V::shift_left(this->bits(words, at + 3 * run, 3), 8));
    const auto negative = V::shift_left(this->bits(words, at + 15, 1), 1);
    return ternary_quad<L>(index, negative, i % 2);
  }
  HYBRID_INLINE auto scale(int g) const {
    const auto number = this->bits(this->vector(8 + g / 2), g % 2 * 16 + 12, 3);
    return Lanes<L>::multiply(this->odd(number), Lanes<L>::set_float(0.125f));
  }
};

template <SimdLevel L>
struct PanelReader<L, DType::iq1_m> : UnitReader<L, 256, 14> {
  using Base = UnitReader<L, 256, 14>;
  using typename Base::Float;
  using typename Base::Int;
  using V = Lanes<L>;
  static constexpr int kScaleCols = 16;
  static constexpr bool kGathers = true;
  static constexpr int kPeriod = 2;
  static constexpr int kMaxQ = 31;
  static constexpr int kOffset = 16;

  HYBRID_INLINE explicit PanelReader(const std::byte* panel, uint64_t block) : Base(panel, block) {
    const Int low = this->vector(0, 12), high = this->vector(0, 13);
    const auto nibble = [](Int x, int at) { return V::bit_and(V::shift_right(x, at), V::set(15)); };
    const Int first = V::bit_or(nibble(low, 12), V::shift_left(nibble(low, 28), 4));
    const Int last = V::bit_or(nibble(high, 12), V::shift_left(nibble(high, 28), 4));
    d = V::half_to_float(V::bit_or(first, V::shift_left(last, 8)));
  }
  HYBRID_INLINE static Int bits(Int x, int at, int n) {
    return V::bit_and(V::shift_right(x, at), V::set((1u << n) - 1));
  }
  HYBRID_INLINE Int quad(int g, int i) const {
    const int run = i / 2, at = g % 2 * 16 + 4 * run;  // two groups share a vector of nibbles
    const Int nibbles = this->vector(g, 8 + g / 2);
    const Int index =
        V::bit_or(bits(this->vector(g, g), 8 * run, 8), V::shift_left(bits(nibbles, at, 3), 8));
    return ternary_quad<L>(index, V::shift_left(bits(nibbles, at + 3, 1), 1), i % 2);
  }
  HYBRID_INLINE Float scale(int s) const {
    const Int number = bits(this->vector(0, 12 + s / 8), s / 4 % 2 * 16 + s % 4 * 3, 3);
    const Float odd = V::to_float(V::add(V::add(number, number), V::set(1)));
    return V::multiply(V::multiply(d, odd), V::set_float(0.125f));
  }

  Float d;
};

using IqTypes = TypeList<DType::iq1_s, DType::iq1_m, DType::iq2_xxs, DType::iq2_xs, DType::iq2_s,
                         DType::iq3_xxs, DType::iq3_s>;

}  // namespace
}  // namespace hybrid::internal
