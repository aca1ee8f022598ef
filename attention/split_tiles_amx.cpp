#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/split_tiles.h"
#include "tensor/bf16_tiles.h"
#include "tensor/simd_row-inl.h"
#include "tensor/tile_ops-inl.h"

namespace hybrid {
namespace {

using internal::tile_load, internal::tile_multiply, internal::tile_store, internal::tile_zero;

constexpr uint64_t kPairBytes = 2 * kTileBytes;  // both parts of a tile

std::byte* bytes(const AlignedFloats& floats) {
  return reinterpret_cast<std::byte*>(floats.data());
}

__m512i bits(__m512 v) { return _mm512_castps_si512(v); }
__m512 floats(__m512i v) { return _mm512_castsi512_ps(v); }
__m512i high_halves() { return _mm512_set1_epi32(static_cast<int>(0xffff0000)); }

/// The leading 8 bits of each float, and the rest.
__m512 cut(__m512 v) { return floats(_mm512_and_si512(bits(v), high_halves())); }
__m512 rounded(__m512 v) {
  return floats(
      _mm512_and_si512(_mm512_add_epi32(bits(v), _mm512_set1_epi32(0x8000)), high_halves()));
}

/// Dwords of two bf16 numbers: `first` in the low halves.
__m512i pairs(__m512 first, __m512 second) {
  constexpr int kSelect = 0xe4;  // c ? a : b
  return _mm512_ternarylogic_epi32(bits(second), _mm512_srli_epi32(bits(first), 16), high_halves(),
                                   kSelect);
}

/// The upper words of two vectors, one after the other.
__m512i upper_words(__m512 a, __m512 b) {
  alignas(64) static constexpr uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                    23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                    45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(bits(a), _mm512_load_si512(kOdd), bits(b));
}

/// Rows become columns.
void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

void store_rows(const __m512i (&rows)[16], std::byte* tile) {
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + 64 * i, rows[i]);
}

/// 32 columns of queries [0, n <= 16) as both parts of a tile [16 pairs of columns][16 queries].
void make_query_tile(const float* q, uint64_t stride, uint32_t n, std::byte* to) {
  __m512i first[16], second[16];
  for (uint32_t i = 0; i < 16; ++i) {
    const __m512 x = i < n ? _mm512_loadu_ps(q + i * stride) : _mm512_setzero_ps();
    const __m512 y = i < n ? _mm512_loadu_ps(q + i * stride + 16) : _mm512_setzero_ps();
    const __m512 x0 = rounded(x), y0 = rounded(y);
    first[i] = upper_words(x0, y0);
    second[i] = upper_words(rounded(_mm512_sub_ps(x, x0)), rounded(_mm512_sub_ps(y, y0)));
  }
  transpose(first), transpose(second);
  store_rows(first, to);
  store_rows(second, to + kTileBytes);
}

/// 16 elements of a cached row.
template <bool kF16>
__m512 load_row(const std::byte* p) {
  if constexpr (kF16) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  } else {
    return _mm512_loadu_ps(p);
  }
}

template <bool kF16>
constexpr uint64_t kElementBytes = kF16 ? 2 : 4;

/// Rows of a chunk; those past its end are the last one again, whose weight is 0.
struct ChunkRows {
  const TileChunkArgs& args;

  const std::byte* row(uint32_t i) const {
    return args.rows + std::min(i, args.n_positions - 1) * args.row_bytes;
  }
};

/// 32 columns of 32 rows from `first` as tiles [2 x 16 rows][part], rows as they are.
template <bool kF16>
void make_key_tiles(const ChunkRows& rows, uint32_t first, uint32_t column, std::byte* to) {
  for (uint32_t i = 0; i < 32; ++i) {
    const std::byte* from = rows.row(first + i) + column * kElementBytes<kF16>;
    _mm_prefetch(from + 32 * rows.args.row_bytes, _MM_HINT_T1);
    const __m512 x = load_row<kF16>(from), y = load_row<kF16>(from + 16 * kElementBytes<kF16>);
    std::byte* at = to + i / 16 * kPairBytes + i % 16 * 64;
    _mm512_store_si512(at, upper_words(x, y));
    _mm512_store_si512(at + kTileBytes,
                       upper_words(_mm512_sub_ps(x, cut(x)), _mm512_sub_ps(y, cut(y))));
  }
}

/// 32 columns of 32 rows as tiles [2 x 16 columns][part], pairs of rows in each dword.
template <bool kF16>
void make_value_tiles(const ChunkRows& rows, uint32_t first, uint32_t column, std::byte* to) {
  for (uint32_t i = 0; i < 32; i += 2) {
    const std::byte* a = rows.row(first + i) + column * kElementBytes<kF16>;
    const std::byte* b = rows.row(first + i + 1) + column * kElementBytes<kF16>;
    for (uint32_t half = 0; half < 2; ++half) {
      const __m512 x = load_row<kF16>(a + half * 16 * kElementBytes<kF16>);
      const __m512 y = load_row<kF16>(b + half * 16 * kElementBytes<kF16>);
      std::byte* at = to + half * kPairBytes + i / 2 * 64;
      _mm512_store_si512(at, pairs(x, y));
      _mm512_store_si512(at + kTileBytes,
                         pairs(_mm512_sub_ps(x, cut(x)), _mm512_sub_ps(y, cut(y))));
    }
  }
}

/// Sums 0, 1 += both tiles of keys (16 positions each) times a tile of queries.
HYBRID_TILE_INLINE void multiply_keys(const std::byte* keys, const std::byte* q) {
  tile_load<4>(keys), tile_load<5>(keys + kPairBytes), tile_load<6>(q);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 5, 6>();
  tile_load<7>(q + kTileBytes);
  tile_multiply<0, 4, 7>(), tile_multiply<1, 5, 7>();
  tile_load<4>(keys + kTileBytes), tile_load<5>(keys + kPairBytes + kTileBytes);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 5, 6>();
}

/// Sums 0, 1 += a tile of weights times both tiles of values (16 columns each).
HYBRID_TILE_INLINE void multiply_values(const std::byte* weights, const std::byte* values) {
  tile_load<4>(weights), tile_load<6>(values), tile_load<7>(values + kPairBytes);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 4, 7>();
  tile_load<5>(weights + kTileBytes);
  tile_multiply<0, 5, 6>(), tile_multiply<1, 5, 7>();
  tile_load<6>(values + kTileBytes), tile_load<7>(values + kPairBytes + kTileBytes);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 4, 7>();
}

/// scores[position][query] of 32 positions and 16 queries: with one tile of queries keys are
/// converted while the tiles before them are multiplied.
template <bool kF16>
void score_rows(const ChunkRows& rows, uint32_t first, const std::byte* q, std::byte* ring,
                float* scores) {
  const uint32_t n_groups = rows.args.key_dim / kTileCols;
  tile_zero<0>(), tile_zero<1>();
  make_key_tiles<kF16>(rows, first, 0, ring);
  for (uint32_t g = 0; g < n_groups; ++g) {
    const std::byte* now = ring + g % 2 * 2 * kPairBytes;
    if (g + 1 < n_groups) {
      make_key_tiles<kF16>(rows, first, (g + 1) * kTileCols, ring + (g + 1) % 2 * 2 * kPairBytes);
    }
    multiply_keys(now, q + g * kPairBytes);
  }
  tile_store<0>(scores), tile_store<1>(scores + 256);
}

/// Scores of 16 queries become weights; maxima and sums go on. Returns the factor of what was
/// summed before.
__m512 weigh(float* scores, uint32_t n_positions, __m512i n_visible, float* max_at, float* sum_at,
             std::byte* weights) {
  const __m512 before = _mm512_load_ps(max_at);
  const uint32_t n_padded = (n_positions + 31) / 32 * 32;
  __m512 max = before;
  for (uint32_t p = 0; p < n_padded; ++p) {
    const __mmask16 sees =
        _mm512_cmpgt_epi32_mask(n_visible, _mm512_set1_epi32(static_cast<int>(p)));
    max = _mm512_mask_max_ps(max, sees, max, _mm512_load_ps(scores + 16 * p));
  }
  // A query that has seen nothing yet: any number, its weights are 0.
  const __mmask16 is_empty = _mm512_cmp_ps_mask(max, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
  const __m512 shift = _mm512_mask_blend_ps(is_empty, max, _mm512_setzero_ps());
  __m512 sum = _mm512_setzero_ps();
  __m512i first[16], second[16];
  const auto weight = [&](uint32_t p) {
    const __mmask16 sees =
        _mm512_cmpgt_epi32_mask(n_visible, _mm512_set1_epi32(static_cast<int>(p)));
    const __m512 x = _mm512_sub_ps(_mm512_load_ps(scores + 16 * p), shift);
    const __m512 w = _mm512_maskz_mov_ps(sees, internal::exp<SimdLevel::avx512_vnni>(x));
    sum = _mm512_add_ps(sum, w);
    return w;
  };
  for (uint32_t p = 0; p < n_padded; p += 32, weights += kPairBytes) {
    for (uint32_t i = 0; i < 16; ++i) {
      const __m512 x = weight(p + 2 * i), y = weight(p + 2 * i + 1);
      const __m512 x0 = rounded(x), y0 = rounded(y);
      first[i] = pairs(x0, y0);
      second[i] = pairs(rounded(_mm512_sub_ps(x, x0)), rounded(_mm512_sub_ps(y, y0)));
    }
    transpose(first), transpose(second);
    store_rows(first, weights);
    store_rows(second, weights + kTileBytes);
  }
  const __m512 factor = internal::exp<SimdLevel::avx512_vnni>(_mm512_sub_ps(before, shift));
  _mm512_store_ps(max_at, max);
  _mm512_store_ps(sum_at, _mm512_fmadd_ps(_mm512_load_ps(sum_at), factor, sum));
  return factor;
}

}  // namespace

void TileAttention::begin(const float* q, uint32_t n_queries, uint32_t key_dim,
                          uint32_t value_dim) {
  key_dim_ = key_dim;
  value_dim_ = value_dim;
  n_tiles_ = (n_queries + 15) / 16;
  const uint64_t n_groups = key_dim / kTileCols, n_steps = kTilePositions / 32;
  const auto tiles = [](AlignedFloats& floats, uint64_t n_pairs) {
    return reinterpret_cast<std::byte*>(floats.reserve(n_pairs * kPairBytes / sizeof(float)));
  };
  constexpr uint64_t kMaxTiles = kTileQueries / 16;
  std::byte* to = tiles(q_, kMaxTiles * n_groups);
  tiles(weights_, kMaxTiles * n_steps);
  tiles(columns_, n_steps * 2);
  tiles(panel_, 4);
  scores_.reserve(kMaxTiles * kTilePositions * 16);
  std::fill_n(sums_.reserve(uint64_t{kTileQueries} * value_dim), n_tiles_ * 16 * value_dim, 0.0f);
  float* softmax = softmax_.reserve(2 * kTileQueries);
  std::fill_n(softmax, kTileQueries, -INFINITY);
  std::fill_n(softmax + kTileQueries, kTileQueries, 0.0f);
  for (uint32_t t = 0; t < n_tiles_; ++t) {
    for (uint64_t g = 0; g < n_groups; ++g, to += kPairBytes) {
      make_query_tile(q + 16 * t * uint64_t{key_dim} + g * kTileCols, key_dim,
                      std::min(16u, n_queries - 16 * t), to);
    }
  }
}

namespace {

/// Multiplies 16 rows of sums by their factors.
void scale_sums(float* sums, uint32_t dim, __m512 factor) {
  alignas(64) float factors[16];
  _mm512_store_ps(factors, factor);
  for (uint32_t i = 0; i < 16; ++i, sums += dim) {
    if (factors[i] == 1) continue;
    const __m512 f = _mm512_set1_ps(factors[i]);
    for (uint32_t c = 0; c < dim; c += 16) {
      _mm512_store_ps(sums + c, _mm512_mul_ps(_mm512_load_ps(sums + c), f));
    }
  }
}

}  // namespace

void TileAttention::add(const TileChunkArgs& args) {
  const internal::TileScope tiles;
  const ChunkRows rows{args};
  const uint64_t n_groups = key_dim_ / kTileCols;
  const uint32_t n_steps = (args.n_positions + 31) / 32;
  const auto add_as = [&]<bool kF16>() {
    for (uint32_t s = 0; s < n_steps; ++s) {
      for (uint32_t t = 0; t < n_tiles_; ++t) {
        score_rows<kF16>(rows, 32 * s, bytes(q_) + t * n_groups * kPairBytes, bytes(panel_),
                         scores_.data() + (uint64_t{t} * kTilePositions + 32 * s) * 16);
      }
    }
    for (uint32_t t = 0; t < n_tiles_; ++t) {
      alignas(64) int32_t n_visible[16];
      for (uint32_t i = 0; i < 16; ++i) {
        const uint32_t query = 16 * t + i;
        n_visible[i] = static_cast<int32_t>(query < args.n_queries ? args.n_visible[query] : 0);
      }
      const __m512 factor = weigh(scores_.data() + uint64_t{t} * kTilePositions * 16,
                                  args.n_positions, _mm512_load_si512(n_visible),
                                  softmax_.data() + 16 * t, softmax_.data() + kTileQueries + 16 * t,
                                  bytes(weights_) + t * (kTilePositions / 32) * kPairBytes);
      scale_sums(sums_.data() + uint64_t{16} * t * value_dim_, value_dim_, factor);
    }
    for (uint32_t c = 0; c < value_dim_; c += kTileCols) {
      for (uint32_t s = 0; s < n_steps; ++s) {
        make_value_tiles<kF16>(rows, 32 * s, c, bytes(columns_) + s * 2 * kPairBytes);
      }
      for (uint32_t t = 0; t < n_tiles_; ++t) {
        float* sums = sums_.data() + uint64_t{16} * t * value_dim_ + c;
        tile_load<0>(sums, value_dim_ * sizeof(float));
        tile_load<1>(sums + 16, value_dim_ * sizeof(float));
        for (uint32_t s = 0; s < n_steps; ++s) {
          multiply_values(bytes(weights_) + (t * (kTilePositions / 32) + s) * kPairBytes,
                          bytes(columns_) + s * 2 * kPairBytes);
        }
        tile_store<0>(sums, value_dim_ * sizeof(float));
        tile_store<1>(sums + 16, value_dim_ * sizeof(float));
      }
    }
  };
  if (args.is_f16) {
    add_as.template operator()<true>();
  } else {
    add_as.template operator()<false>();
  }
}

}  // namespace hybrid
