#pragma once
// Floats to the bf16 values of a tile row (bf16_tiles.h).

#include <immintrin.h>

#include "tensor/bf16_tiles.h"

namespace hybrid::internal {
namespace {

/// 16 columns: 32 bytes of a tile row.
inline __attribute__((always_inline)) __m256i tile_values(__m512 x) {
  const __m512 scaled = _mm512_mul_ps(x, _mm512_set1_ps(0x1p64f));
  const __m512 ordered = _mm512_permute_ps(scaled, 0xd8);  // 0 2 1 3 of each four
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(ordered));
}

/// What rounding to bf16 leaves.
inline __attribute__((always_inline)) __m512 rest_of(__m512 x) {
  const __m512i bits = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
}

}  // namespace
}  // namespace hybrid::internal
