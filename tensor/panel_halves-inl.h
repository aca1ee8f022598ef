#pragma once
// Packed weights as half floats: q (an integer, exact) times the scale minus the minimum, one fused
// operation, each row scaled by a power of two so that nothing over- or underflows (panel.h).

#include <bit>

#include "tensor/panel_reader-inl.h"

namespace hybrid::internal {
namespace {

/// Each of the 16 words in the low half twice.
HYBRID_INLINE __m512i twice(__m256i words) {
  const __m512i order = _mm512_set_epi16(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8,
                                         7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  return _mm512_permutexvar_epi16(order, _mm512_castsi256_si512(words));
}

HYBRID_INLINE float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

/// The half float of each lane's number in both words of the lane.
HYBRID_INLINE __m512h both_words(__m512 x) {
  return reinterpret_cast<__m512h>(twice(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)));
}

/// What the rows of a panel are multiplied with: 2^exponent, and a factor near 1.
struct RowFactors {
  HYBRID_INLINE RowFactors(int exponent, float factor)
      : both(_mm512_set1_ps(power_of_two(exponent) * factor)),
        exponents(_mm512_set1_ph(static_cast<_Float16>(exponent))),
        made_up(_mm512_set1_ph(static_cast<_Float16>(factor))) {}
  /// Each row its power of two.
  HYBRID_INLINE explicit RowFactors(__m512 powers)
      : both(powers),
        exponents(both_words(_mm512_getexp_ps(powers))),
        made_up(_mm512_set1_ph(static_cast<_Float16>(1))) {}

  __m512 both;
  __m512h exponents, made_up;
};

/// Scales and minima as half floats in both words of a lane. The reader is handed over with each
/// call: a reference to it would keep compilers from holding any of this in registers.
template <class Reader>
struct HalfScales {
  using V = Lanes<SimdLevel::amx>;

  HYBRID_INLINE HalfScales(const Reader&, const RowFactors& f) : factors(f.both) {}
  HYBRID_INLINE __m512h scale(const Reader& reader, int s) const {
    return both_words(V::multiply(reader.scale(s), factors));
  }
  HYBRID_INLINE __m512h offset(const Reader& reader, int s) const {
    const __m512 minimum = minimum_of<SimdLevel::amx>(reader, s);
    return both_words(V::multiply(minimum, _mm512_sub_ps(_mm512_setzero_ps(), factors)));
  }

  __m512 factors;
};

/// Of bytes times a factor of the block: three instructions each.
template <class Reader>
requires requires(Reader r) { r.minima[1]; }
struct HalfScales<Reader> {
  HYBRID_INLINE HalfScales(const Reader& r, const RowFactors& f)
      : d(both_words(_mm512_mul_ps(r.d, f.both))),
        dmin(both_words(_mm512_mul_ps(r.dmin, _mm512_sub_ps(_mm512_setzero_ps(), f.both)))) {}
  HYBRID_INLINE __m512h scale(const Reader& reader, int s) const {
    return _mm512_mul_ph(from_byte(reader.scales[s / 4], s % 4), d);
  }
  HYBRID_INLINE __m512h offset(const Reader& reader, int s) const {
    return _mm512_mul_ph(from_byte(reader.minima[s / 4], s % 4), dmin);
  }
  /// Byte k of each lane, in both words.
  HYBRID_INLINE static __m512h from_byte(__m512i x, int k) {
    const __m512i order =
        _mm512_add_epi32(_mm512_broadcast_i32x4(_mm_setr_epi8(0, -128, 0, -128, 4, -128, 4, -128, 8,
                                                              -128, 8, -128, 12, -128, 12, -128)),
                         _mm512_set1_epi32(k * 0x00010001));
    return _mm512_cvtepu16_ph(_mm512_shuffle_epi8(x, order));
  }

  __m512h d, dmin;
};

/// Half floats already.
template <class Reader>
requires requires(Reader r) { r.scale_halves(0); }
struct HalfScales<Reader> {
  HYBRID_INLINE HalfScales(const Reader&, const RowFactors& f)
      : exponents(f.exponents), factors(f.made_up) {}
  HYBRID_INLINE __m512h scale(const Reader& reader, int s) const {
    const __m512i order = _mm512_add_epi32(
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13)),
        _mm512_set1_epi32(s % 2 * 0x02020202));
    const __m512i words = _mm512_shuffle_epi8(reader.scale_halves(s), order);
    return _mm512_mul_ph(_mm512_scalef_ph(reinterpret_cast<__m512h>(words), exponents), factors);
  }
  HYBRID_INLINE __m512h offset(const Reader& reader, int s) const {
    return _mm512_mul_ph(scale(reader, s), _mm512_set1_ph(static_cast<_Float16>(-Reader::kOffset)));
  }

  __m512h exponents, factors;
};

/// The values of a type of 4 bits as half floats, twice: the fifth bit of an index has no effect.
template <class Reader>
struct NibbleTable {
  alignas(64) _Float16 values[32];

  constexpr NibbleTable() : values{} {
    for (int i = 0; i < 32; ++i) values[i] = static_cast<_Float16>(Reader::kValues[i % 16]);
  }
  static const NibbleTable table;
};
template <class Reader>
constexpr NibbleTable<Reader> NibbleTable<Reader>::table{};

/// 16 rows x 4 columns: words of each lane are columns 4 i, 4 i + 2 and 4 i + 1, 4 i + 3.
struct HalfPair {
  __m512h even, odd;
};

/// A type's weights times their rows' factors.
template <DType type>
struct HalfUnpacker {
  using Reader = PanelReader<SimdLevel::amx, type>;
  /// Whether scales are half floats in the file, which a power of two leaves exact.
  static constexpr bool kExactScales = requires(Reader r) { r.scale_halves(0); };
  static constexpr int kScales = kGroupCols / Reader::kScaleCols;
  static constexpr int kQuadsOfScale = kQuads / kScales;
  static constexpr bool kNibbles = requires { Reader::kValues; };
  /// Nibbles take so few instructions that those of a loop show: 2 to 4 % with one tile of tokens.
  static constexpr int kPeriod = kNibbles && Reader::kPeriod > 1 ? kGroups : Reader::kPeriod;
  /// Nibbles with values of their own are looked up, with their signs.
  static constexpr bool kLooksUp = [] {
    if constexpr (kNibbles) return Reader::kValues != nibble_values(-Reader::kValues[0]);
    return false;
  }();

  HYBRID_INLINE HalfUnpacker(const std::byte* panel, uint64_t block, const RowFactors& factors)
      : reader(panel, block), scales(reader, factors) {}

  /// Columns 4 i to 4 i + 3 of group g; i from 0 to 7 in order.
  HYBRID_INLINE HalfPair step(int g, int i) {
    if (i % kQuadsOfScale == 0) {
      const int s = kScales * g + i / kQuadsOfScale;
      scale = scales.scale(reader, s);
      if constexpr (!kLooksUp) offset = scales.offset(reader, s);
    }
    if constexpr (kLooksUp) {
      const __m512i x = reader.packed(g, i);
      const unsigned shift = reader.is_high(g, i) ? 4 : 0;
      return {_mm512_mul_ph(look_up(x, shift), scale), _mm512_mul_ph(look_up(x, shift + 8), scale)};
    } else if constexpr (kNibbles) {
      const bool high = reader.is_high(g, i);
      if (i == 0 || high != reader.is_high(g, i - 1)) set_part_scales(high ? 4 : 0);
      const __m512i x = reader.packed(g, i);
      return {weights(x, high ? 0xf0 : 0x0f, even_scale),
              weights(x, high ? 0xf000 : 0x0f00, odd_scale)};
    } else {
      if (i % kQuadsOfScale == 0) set_part_scales(0);
      const __m512i x = reader.quad(g, i);
      return {weights(x, 0x00ff, even_scale), weights(x, 0xff00, odd_scale)};
    }
  }

  /// Bits of a word are not shifted down, which would cost an instruction: where they stand makes
  /// them a number 2^shift times as large (2^8 more in the high byte), exact as a half float, and
  /// the scale takes that out.
  HYBRID_INLINE void set_part_scales(int shift) {
    const auto scaled = [&](int down) __attribute__((always_inline)) {
      return _mm512_mul_ph(scale, _mm512_set1_ph(static_cast<_Float16>(power_of_two(-down))));
    };
    even_scale = shift == 0 ? scale : scaled(shift);
    odd_scale = scaled(shift + 8);
  }
  HYBRID_INLINE __m512h weights(__m512i x, uint16_t mask, __m512h part_scale) const {
    const __m512i bits = _mm512_and_si512(x, _mm512_set1_epi16(static_cast<int16_t>(mask)));
    return _mm512_fmadd_ph(_mm512_cvtepu16_ph(bits), part_scale, offset);
  }
  /// The values of the nibbles at bit `shift` of each word.
  HYBRID_INLINE static __m512h look_up(__m512i x, unsigned shift) {
    const __m512i table = _mm512_load_si512(NibbleTable<Reader>::table.values);
    const __m512i index = shift == 0 ? x : _mm512_srli_epi16(x, shift);
    return reinterpret_cast<__m512h>(_mm512_permutexvar_epi16(index, table));
  }

  Reader reader;
  HalfScales<Reader> scales;
  __m512h scale, offset, even_scale, odd_scale;
};

/// Half floats already; the vectors are what is asked for.
template <>
struct HalfUnpacker<DType::f16> {
  static constexpr int kPeriod = kGroups;
  static constexpr bool kExactScales = true;
  HYBRID_INLINE HalfUnpacker(const std::byte* panel, uint64_t block, const RowFactors& f)
      : base(panel + block * kGroups * kHalvesGroupBytes),
        exponents(f.exponents),
        factors(f.made_up) {}
  HYBRID_INLINE HalfPair step(int g, int i) const {
    return {vector(g, 2 * i), vector(g, 2 * i + 1)};
  }
  HYBRID_INLINE __m512h vector(int g, int row) const {
    const __m512i halves = _mm512_load_si512(base + g * kHalvesGroupBytes + 64 * row);
    return _mm512_mul_ph(_mm512_scalef_ph(reinterpret_cast<__m512h>(halves), exponents), factors);
  }
  static constexpr int kHalvesGroupBytes = 1024;
  const std::byte* base;
  __m512h exponents, factors;
};

}  // namespace
}  // namespace hybrid::internal
