#include "tensor/int16_tiles.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace hybrid {
namespace {

/// The largest that is 256 * high + low with a high byte below 128 for every low byte.
constexpr float kLargest = 127 * 256;

/// What is larger than so many times the mean is cut. Tails of what spreads without outliers do
/// not reach it.
constexpr float kOutlier = 16;

__mmask16 columns_at(uint64_t c, uint64_t end) {
  return c >= end ? 0 : static_cast<__mmask16>((1u << std::min<uint64_t>(16, end - c)) - 1);
}

struct Magnitudes {
  float largest;  // no finite number where one of them is none
  float mean;
};

Magnitudes magnitudes_of(const float* x, uint64_t n) {
  __m512i largest = _mm512_setzero_si512();  // as bits: what is not finite is larger than all else
  __m512 sum = _mm512_setzero_ps();
  for (uint64_t c = 0; c < n; c += 16) {
    const __m512 v = _mm512_abs_ps(_mm512_maskz_loadu_ps(columns_at(c, n), x + c));
    largest = _mm512_max_epu32(largest, _mm512_castps_si512(v));
    sum = _mm512_add_ps(sum, v);
  }
  const auto bits = static_cast<int>(_mm512_reduce_max_epu32(largest));
  return {_mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits))),
          _mm512_reduce_add_ps(sum) / static_cast<float>(n)};
}

struct Scale {
  float scale = 0, factor = 0;
};
Scale scale_of(float largest) {
  if (!std::isfinite(largest)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  if (largest < 0x1p-100f) return {};
  return {largest / kLargest, kLargest / largest};
}

void store_fixed(__m512i fixed, std::byte* to) {
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(fixed, _mm512_set1_epi32(128)), 8);
  _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(high));
  _mm_store_si128(reinterpret_cast<__m128i*>(to + kTileBytes), _mm512_cvtepi32_epi8(fixed));
}

/// A token's columns of one step, cut at `limit`; whether a group of 64 of them had more is noted.
void store_step(const float* x, uint64_t n, float limit, float factor, std::byte* to,
                uint8_t* has_rest) {
  const __m512 factors = _mm512_set1_ps(factor);
  const __m512 most = _mm512_set1_ps(limit), least = _mm512_set1_ps(-limit);
  for (uint64_t c = 0; c < n; c += kInt16TileCols, to += 2 * kTileBytes, ++has_rest) {
    __mmask16 cut = 0;
    for (uint64_t i = 0; i < kInt16TileCols; i += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(columns_at(c + i, n), x + c + i);
      const __m512 kept = _mm512_max_ps(_mm512_min_ps(v, most), least);
      cut |= _mm512_cmp_ps_mask(v, kept, _CMP_NEQ_OQ);
      store_fixed(_mm512_cvtps_epi32(_mm512_mul_ps(kept, factors)), to + i);
    }
    *has_rest |= cut != 0 ? 1 : 0;
  }
}

/// What store_step cut off, where a group has any.
void store_rest(const float* x, uint64_t n, float limit, float factor, std::byte* to,
                const uint8_t* has_rest) {
  const __m512 factors = _mm512_set1_ps(factor);
  const __m512 most = _mm512_set1_ps(limit), least = _mm512_set1_ps(-limit);
  for (uint64_t c = 0; c < n; c += kInt16TileCols, to += 2 * kTileBytes, ++has_rest) {
    if (*has_rest == 0) continue;
    for (uint64_t i = 0; i < kInt16TileCols; i += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(columns_at(c + i, n), x + c + i);
      const __m512 rest = _mm512_sub_ps(v, _mm512_max_ps(_mm512_min_ps(v, most), least));
      store_fixed(_mm512_cvtps_epi32(_mm512_mul_ps(rest, factors)), to + i);
    }
  }
}

void clear_row(std::byte* row, uint64_t n_groups, const uint8_t* only) {
  for (uint64_t g = 0; g < n_groups; ++g, row += 2 * kTileBytes) {
    if (only != nullptr && only[g] == 0) continue;
    std::memset(row, 0, 64);
    std::memset(row + kTileBytes, 0, 64);
  }
}

}  // namespace

void store_int16_tile(const float* x, const Int16Layout& layout, uint64_t tile, std::byte* buffer) {
  const uint64_t n_cols = layout.n_cols, n_groups = n_int16_groups(n_cols);
  const uint64_t first = tile * kTileTokens, stride = layout.scale_stride();
  const uint64_t n_tokens = std::min(kTileTokens, layout.n_tokens - first);
  std::byte* tiles = buffer + tile * int16_tile_stride(n_cols);
  std::byte* rest = tiles + layout.rest_at();
  auto* scales = reinterpret_cast<float*>(buffer + layout.scales_at()) + first;
  auto* rest_scales = reinterpret_cast<float*>(buffer + layout.rest_scales_at()) + first;
  auto* has_rest = reinterpret_cast<uint8_t*>(buffer + layout.flags_at()) + tile * n_groups;
  std::memset(has_rest, 0, n_groups);
  for (uint64_t s = 0; s < n_int16_steps(n_cols); ++s) {
    const uint64_t col = s * kInt16StepCols, n = std::min(kInt16StepCols, n_cols - col);
    const uint64_t group = col / kInt16TileCols, at = group * 2 * kTileBytes;
    float limits[kTileTokens] = {}, rests[kTileTokens] = {};
    for (uint64_t t = 0; t < n_tokens; ++t) {
      const float* from = x + (first + t) * n_cols + col;
      const Magnitudes m = magnitudes_of(from, n);
      limits[t] = std::min(m.largest, kOutlier * m.mean);
      if (!std::isfinite(m.largest)) limits[t] = m.largest;
      const Scale scale = scale_of(limits[t]);
      scales[s * stride + t] = scale.scale;
      // Where the scale is no number neither is the limit; nothing counts as cut then.
      rests[t] = std::isfinite(m.largest) && scale.scale > 0 ? m.largest - limits[t] : 0;
      if (!std::isfinite(m.largest)) limits[t] = 0;
      uint8_t unused[kInt16StepCols / kInt16TileCols] = {};
      store_step(from, n, limits[t], scale.factor, tiles + at + t * 64,
                 rests[t] > 0 ? has_rest + group : unused);
    }
    for (uint64_t t = 0; t < kTileTokens; ++t) {
      const Scale scale = scale_of(rests[t]);
      rest_scales[s * stride + t] = scale.scale;
      if (t < n_tokens && scale.scale > 0) {
        store_rest(x + (first + t) * n_cols + col, n, limits[t], scale.factor, rest + at + t * 64,
                   has_rest + group);
      } else {
        clear_row(rest + at + t * 64, (n + kInt16TileCols - 1) / kInt16TileCols, has_rest + group);
      }
    }
    for (uint64_t t = n_tokens; t < kTileTokens; ++t) {
      scales[s * stride + t] = 0;
      clear_row(tiles + at + t * 64, (n + kInt16TileCols - 1) / kInt16TileCols, nullptr);
    }
  }
}

}  // namespace hybrid
