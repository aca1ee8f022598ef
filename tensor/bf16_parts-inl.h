#pragma once
// Floats as sums of bf16 numbers: the first part is the float rounded, the second what that leaves,
// rounded. Two parts leave at most 2^-17 of it.

#include <immintrin.h>

namespace hybrid::internal {
namespace {

inline __attribute__((always_inline)) __m512i high_words() {
  return _mm512_set1_epi32(static_cast<int>(0xffff0000));
}

/// x rounded to bf16, as a float; half way up.
inline __attribute__((always_inline)) __m512 rounded_to_bf16(__m512 x) {
  const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(bits, high_words()));
}

/// The bf16 numbers that two vectors of them are as floats: those of `first` in the low words.
inline __attribute__((always_inline)) __m512i bf16_pairs(__m512 first, __m512 second) {
  constexpr int kSelect = 0xe4;  // c ? a : b
  return _mm512_ternarylogic_epi32(_mm512_castps_si512(second),
                                   _mm512_srli_epi32(_mm512_castps_si512(first), 16), high_words(),
                                   kSelect);
}

}  // namespace
}  // namespace hybrid::internal
