#pragma once
// What row operations need of the wide vectors beyond SimdFloat: parts of a vector at the end of a
// row, and the exponential.

#include <cstdint>
#include <cstring>

#include "tensor/simd_float-inl.h"

namespace hybrid::internal {
namespace {

template <SimdLevel L>
struct SimdRow;

#if defined(__AVX2__)
template <>
struct SimdRow<SimdLevel::avx2> {
  using Vector = __m256;
  using Doubles = __m256d;

  /// The first n < 8 lanes, the others 0.
  static Vector load_part(const float* p, uint64_t n) {
    float lanes[8] = {};
    std::memcpy(lanes, p, n * sizeof(float));
    return _mm256_loadu_ps(lanes);
  }
  static void store_part(float* p, Vector v, uint64_t n) {
    float lanes[8];
    _mm256_storeu_ps(lanes, v);
    std::memcpy(p, lanes, n * sizeof(float));
  }
  /// Where an element is NaN: b's.
  static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
  static Vector round(Vector v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  /// v * 2^n for whole n in [-252, 254], in two steps because 2^n itself may not be a float.
  static Vector times_power_of_two(Vector v, Vector n) {
    const __m256i all = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(all, 1);
    const __m256i rest = _mm256_sub_epi32(all, half);
    return _mm256_mul_ps(_mm256_mul_ps(v, power_of_two(half)), power_of_two(rest));
  }
  /// v, but 0 in the lanes where a < b.
  static Vector zero_where_less(Vector a, Vector b, Vector v) {
    return _mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), v);
  }
  static Vector rotate_pairs(Vector x, Vector table) {
    const Vector swapped = _mm256_permute_ps(x, 0xb1);
    const Vector sin_part = _mm256_mul_ps(swapped, _mm256_movehdup_ps(table));
    return _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(table), sin_part);
  }
  static Doubles low_doubles(Vector v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
  static Doubles high_doubles(Vector v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

  /// Eight halves, as f32_to_f16 rounds them; every NaN becomes the quiet one of its sign.
  static void store_f16(void* to, Vector v) {
    const Vector sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0f));
    const Vector quiet = _mm256_or_ps(sign, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)));
    const Vector is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    const __m128i halves = _mm256_cvtps_ph(_mm256_blendv_ps(v, quiet, is_nan), 0);
    std::memcpy(to, &halves, sizeof(halves));
  }

 private:
  static Vector power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};
#endif

#if defined(__AVX512F__)
template <>
struct SimdRow<SimdLevel::avx512_vnni> {
  using Vector = __m512;
  using Doubles = __m512d;

  static Vector load_part(const float* p, uint64_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
  }
  static void store_part(float* p, Vector v, uint64_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
  }
  static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
  static Vector round(Vector v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vector times_power_of_two(Vector v, Vector n) { return _mm512_scalef_ps(v, n); }
  static Vector zero_where_less(Vector a, Vector b, Vector v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), v);
  }
  static Vector rotate_pairs(Vector x, Vector table) {
    const Vector swapped = _mm512_permute_ps(x, 0xb1);
    const Vector sin_part = _mm512_mul_ps(swapped, _mm512_movehdup_ps(table));
    return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(table), sin_part);
  }
  static Doubles low_doubles(Vector v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
  static Doubles high_doubles(Vector v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
  static void store_f16(void* to, Vector v) {
    const Vector sign = _mm512_and_ps(v, _mm512_set1_ps(-0.0f));
    const Vector quiet = _mm512_or_ps(sign, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m256i halves = _mm512_cvtps_ph(_mm512_mask_blend_ps(is_nan, v, quiet), 0);
    std::memcpy(to, &halves, sizeof(halves));
  }

 private:
  static __mmask16 first_lanes(uint64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};
#endif

/// exp of each lane within 2e-7 relative: 2^n * e^r with |r| <= ln(2) / 2, e^r by a polynomial that
/// is itself within 1e-8. -infinity gives 0, what exceeds the floats infinity, NaN NaN. What would
/// be below the smallest normal float is 0: weights that small change no sum, but products with
/// them made attention with far-apart scores 7 times as slow (Sapphire Rapids).
template <SimdLevel L>
typename SimdFloat<L>::Vector exp(typename SimdFloat<L>::Vector x) {
  using Simd = SimdFloat<L>;
  using Row = SimdRow<L>;
  const auto constant = [](float c) { return Simd::broadcast(c); };
  const auto smallest = constant(-87.3365402f);  // of which exp is a normal float
  const auto before = x;
  x = Row::max(smallest, Row::min(constant(100.0f), x));  // NaN stays, as the second operand
  const auto n = Row::round(x * constant(1.44269504f));
  auto r = Simd::multiply_add(n, constant(-0.693359375f), x);  // ln(2) in two parts
  r = Simd::multiply_add(n, constant(2.12194440e-4f), r);
  auto p = constant(0x1.6d10fcp-10f);
  p = Simd::multiply_add(p, r, constant(0x1.120b62p-7f));
  p = Simd::multiply_add(p, r, constant(0x1.55551ap-5f));
  p = Simd::multiply_add(p, r, constant(0x1.5554dep-3f));
  p = Simd::multiply_add(p, r, constant(0.5f));
  p = Simd::multiply_add(p * r, r, r) + constant(1.0f);
  return Row::zero_where_less(before, smallest, Row::times_power_of_two(p, n));
}

/// silu(gate) * up of each lane, silu(x) = x / (1 + exp(-x)).
template <SimdLevel L>
typename SimdFloat<L>::Vector silu_mul_lanes(typename SimdFloat<L>::Vector gate,
                                             typename SimdFloat<L>::Vector up) {
  return gate / (SimdFloat<L>::broadcast(1.0f) + exp<L>(-gate)) * up;
}

}  // namespace
}  // namespace hybrid::internal
