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

}  // namespace
}  // namespace hybrid::internal
