#pragma once
// Sixteen 32-bit lanes at every wide level: one AVX-512 register, or two of AVX2. A lane belongs to
// one row of a panel. Only what panel kernels need.

#include <cstdint>

#include "tensor/simd_level.h"

#include <immintrin.h>

namespace hybrid::internal {
namespace {

template <SimdLevel L>
struct Lanes;

#define HYBRID_LANES_INLINE static inline __attribute__((always_inline))

#if defined(__AVX2__) && !defined(__AVX512F__)

template <>
struct Lanes<SimdLevel::avx2> {
  struct Int {
    __m256i a, b;
  };
  struct Float {
    __m256 a, b;
  };

  HYBRID_LANES_INLINE Int load(const void* p) {
    const auto* v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  HYBRID_LANES_INLINE void store(void* p, Int x) {
    auto* v = static_cast<__m256i*>(p);
    _mm256_storeu_si256(v, x.a);
    _mm256_storeu_si256(v + 1, x.b);
  }
  HYBRID_LANES_INLINE Int set(uint32_t x) {
    const __m256i v = _mm256_set1_epi32(static_cast<int>(x));
    return {v, v};
  }
  HYBRID_LANES_INLINE Int bit_and(Int x, Int y) {
    return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int bit_or(Int x, Int y) {
    return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int bit_xor(Int x, Int y) {
    return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int shift_left(Int x, int n) {
    return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
  }
  HYBRID_LANES_INLINE Int shift_right(Int x, int n) {
    return {_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)};
  }
  HYBRID_LANES_INLINE Int shift_right_signed(Int x, int n) {
    return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)};
  }
  HYBRID_LANES_INLINE Int add(Int x, Int y) {
    return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int add_bytes(Int x, Int y) {
    return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int sub_bytes(Int x, Int y) {
    return {_mm256_sub_epi8(x.a, y.a), _mm256_sub_epi8(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int sub_words(Int x, Int y) {
    return {_mm256_sub_epi16(x.a, y.a), _mm256_sub_epi16(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Int larger(Int x, Int y) {
    return {_mm256_max_epu32(x.a, y.a), _mm256_max_epu32(x.b, y.b)};
  }
  /// x * y / 2^15 of signed words, rounded.
  HYBRID_LANES_INLINE Int multiply_words_high(Int x, Int y) {
    return {_mm256_mulhrs_epi16(x.a, y.a), _mm256_mulhrs_epi16(x.b, y.b)};
  }
  /// Byte i of the result: table[byte i of x], 16 entries, bytes of x below 16.
  HYBRID_LANES_INLINE Int look_up(Int x, const void* table) {
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
  }
  /// Byte k of each lane in all its four bytes.
  HYBRID_LANES_INLINE Int spread_byte(Int x, int k) {
    const __m256i order = _mm256_add_epi8(_mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c,
                                                            0, 0x04040404, 0x08080808, 0x0c0c0c0c),
                                          _mm256_set1_epi8(static_cast<char>(k)));
    return {_mm256_shuffle_epi8(x.a, order), _mm256_shuffle_epi8(x.b, order)};
  }
  /// 0xff in each byte that has all the bits of the byte of `bits` (one bit each), else 0.
  HYBRID_LANES_INLINE Int bytes_with(Int x, uint32_t bits) {
    const __m256i b = _mm256_set1_epi32(static_cast<int>(bits));
    return {_mm256_cmpeq_epi8(_mm256_and_si256(x.a, b), b),
            _mm256_cmpeq_epi8(_mm256_and_si256(x.b, b), b)};
  }
  HYBRID_LANES_INLINE Int gather(const void* table, Int index) {
    const auto* t = static_cast<const int*>(table);
    return {_mm256_i32gather_epi32(t, index.a, 4), _mm256_i32gather_epi32(t, index.b, 4)};
  }
  HYBRID_LANES_INLINE Float to_float(Int x) {
    return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
  }
  /// To the nearest.
  HYBRID_LANES_INLINE Int to_int(Float x) {
    return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
  }
  HYBRID_LANES_INLINE Float as_float(Int x) {
    return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
  }
  HYBRID_LANES_INLINE Int as_int(Float x) {
    return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
  }
  /// The half float in the low 16 bits of each lane, whatever is above.
  HYBRID_LANES_INLINE Float half_to_float(Int x) { return {widen(x.a), widen(x.b)}; }
  HYBRID_LANES_INLINE Float load_float(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  HYBRID_LANES_INLINE void store_float(float* p, Float x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  HYBRID_LANES_INLINE Float set_float(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  HYBRID_LANES_INLINE Float multiply(Float x, Float y) {
    return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Float divide(Float x, Float y) {
    return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
  }
  HYBRID_LANES_INLINE Float add_float(Float x, Float y) {
    return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
  }
  /// x * y + z
  HYBRID_LANES_INLINE Float multiply_add(Float x, Float y, Float z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  /// x * y - z
  HYBRID_LANES_INLINE Float multiply_subtract(Float x, Float y, Float z) {
    return {_mm256_fmsub_ps(x.a, y.a, z.a), _mm256_fmsub_ps(x.b, y.b, z.b)};
  }
  /// z - x * y
  HYBRID_LANES_INLINE Float subtract_product(Float z, Float x, Float y) {
    return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
  }

 private:
  HYBRID_LANES_INLINE __m256 widen(__m256i x) {
    const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }
};

#endif

#if defined(__AVX512F__)

template <>
struct Lanes<SimdLevel::avx512_vnni> {
  using Int = __m512i;
  using Float = __m512;

  HYBRID_LANES_INLINE Int load(const void* p) { return _mm512_loadu_si512(p); }
  HYBRID_LANES_INLINE void store(void* p, Int x) { _mm512_storeu_si512(p, x); }
  HYBRID_LANES_INLINE Int set(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  HYBRID_LANES_INLINE Int bit_and(Int x, Int y) { return _mm512_and_si512(x, y); }
  HYBRID_LANES_INLINE Int bit_or(Int x, Int y) { return _mm512_or_si512(x, y); }
  HYBRID_LANES_INLINE Int bit_xor(Int x, Int y) { return _mm512_xor_si512(x, y); }
  HYBRID_LANES_INLINE Int shift_left(Int x, unsigned n) { return _mm512_slli_epi32(x, n); }
  HYBRID_LANES_INLINE Int shift_right(Int x, unsigned n) { return _mm512_srli_epi32(x, n); }
  HYBRID_LANES_INLINE Int shift_right_signed(Int x, unsigned n) { return _mm512_srai_epi32(x, n); }
  HYBRID_LANES_INLINE Int add(Int x, Int y) { return _mm512_add_epi32(x, y); }
  HYBRID_LANES_INLINE Int add_bytes(Int x, Int y) { return _mm512_add_epi8(x, y); }
  HYBRID_LANES_INLINE Int sub_bytes(Int x, Int y) { return _mm512_sub_epi8(x, y); }
  HYBRID_LANES_INLINE Int sub_words(Int x, Int y) { return _mm512_sub_epi16(x, y); }
  HYBRID_LANES_INLINE Int larger(Int x, Int y) { return _mm512_max_epu32(x, y); }
  HYBRID_LANES_INLINE Int multiply_words_high(Int x, Int y) { return _mm512_mulhrs_epi16(x, y); }
  HYBRID_LANES_INLINE Int look_up(Int x, const void* table) {
    const __m128i t = _mm_loadu_si128(static_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), x);
  }
  HYBRID_LANES_INLINE Int spread_byte(Int x, int k) {
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm512_shuffle_epi8(x, _mm512_add_epi8(order, _mm512_set1_epi8(static_cast<char>(k))));
  }
  HYBRID_LANES_INLINE Int bytes_with(Int x, uint32_t bits) {
    return _mm512_movm_epi8(_mm512_test_epi8_mask(x, _mm512_set1_epi32(static_cast<int>(bits))));
  }
  HYBRID_LANES_INLINE Int gather(const void* table, Int index) {
    return _mm512_i32gather_epi32(index, table, 4);
  }
  HYBRID_LANES_INLINE Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
  HYBRID_LANES_INLINE Int to_int(Float x) { return _mm512_cvtps_epi32(x); }
  HYBRID_LANES_INLINE Float as_float(Int x) { return _mm512_castsi512_ps(x); }
  HYBRID_LANES_INLINE Int as_int(Float x) { return _mm512_castps_si512(x); }
  HYBRID_LANES_INLINE Float half_to_float(Int x) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
  }
  HYBRID_LANES_INLINE Float load_float(const float* p) { return _mm512_loadu_ps(p); }
  HYBRID_LANES_INLINE void store_float(float* p, Float x) { _mm512_storeu_ps(p, x); }
  HYBRID_LANES_INLINE Float set_float(float x) { return _mm512_set1_ps(x); }
  HYBRID_LANES_INLINE Float multiply(Float x, Float y) { return _mm512_mul_ps(x, y); }
  HYBRID_LANES_INLINE Float divide(Float x, Float y) { return _mm512_div_ps(x, y); }
  HYBRID_LANES_INLINE Float add_float(Float x, Float y) { return _mm512_add_ps(x, y); }
  HYBRID_LANES_INLINE Float multiply_add(Float x, Float y, Float z) {
    return _mm512_fmadd_ps(x, y, z);
  }
  HYBRID_LANES_INLINE Float multiply_subtract(Float x, Float y, Float z) {
    return _mm512_fmsub_ps(x, y, z);
  }
  HYBRID_LANES_INLINE Float subtract_product(Float z, Float x, Float y) {
    return _mm512_fnmadd_ps(x, y, z);
  }
};

/// The matrix units work beside the same registers.
template <>
struct Lanes<SimdLevel::amx> : Lanes<SimdLevel::avx512_vnni> {};

#endif

}  // namespace
}  // namespace hybrid::internal
