#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/split_tiles.h"
#include "tensor/bf16_parts-inl.h"
#include "tensor/bf16_tiles.h"
#include "tensor/simd_row-inl.h"
#include "tensor/tile_ops-inl.h"

namespace hybrid {
namespace {

using internal::bf16_pairs, internal::rounded_to_bf16;
using internal::tile_load, internal::tile_multiply, internal::tile_store, internal::tile_zero;

constexpr uint64_t kPairBytes = 2 * kTileBytes;  // both parts of a tile

std::byte* bytes(const AlignedFloats& floats) {
  return reinterpret_cast<std::byte*>(floats.data());
}

std::byte* reserve_tiles(AlignedFloats& floats, uint64_t n_tiles) {
  return reinterpret_cast<std::byte*>(floats.reserve(n_tiles * kTileBytes / sizeof(float)));
}

__m512i bits(__m512 v) { return _mm512_castps_si512(v); }
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
    const __m512 x0 = rounded_to_bf16(x), y0 = rounded_to_bf16(y);
    first[i] = upper_words(x0, y0);
    second[i] =
        upper_words(rounded_to_bf16(_mm512_sub_ps(x, x0)), rounded_to_bf16(_mm512_sub_ps(y, y0)));
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

/// 32 columns of 16 cached rows as both parts of a tile, rows as they are. Rows past the last are
/// it again: their weight is 0. 1 KB from `ahead` on is prefetched: in the order of memory, in
/// which rows are not read here, the processor's own prefetcher joins in (twice the bandwidth).
template <bool kF16>
HYBRID_TILE_INLINE void make_key_tile(const TileChunkArgs& args, uint32_t first, uint32_t column,
                                      const std::byte* ahead, std::byte* to, std::byte* rest) {
  const std::byte* row = args.rows + first * args.row_bytes + column * kElementBytes<kF16>;
  const uint32_t n = first < args.n_positions ? args.n_positions - first : 0;
  if (n == 0) row = args.rows + column * kElementBytes<kF16>;
  for (uint32_t i = 0; i < 16; ++i, to += 64, rest += 64) {
    _mm_prefetch(ahead + 64 * i, _MM_HINT_T0);
    const __m512 x = load_row<kF16>(row), y = load_row<kF16>(row + 16 * kElementBytes<kF16>);
    const __m512 x0 = rounded_to_bf16(x), y0 = rounded_to_bf16(y);
    _mm512_store_si512(to, upper_words(x0, y0));
    _mm512_store_si512(rest, upper_words(_mm512_sub_ps(x, x0), _mm512_sub_ps(y, y0)));
    if (i + 1 < n) row += args.row_bytes;
  }
}

/// A tile of keys, 32 positions and 32 columns in two tiles, as values: pairs of rows in each
/// dword, 16 columns in each tile, in the order 0-3 8-11 16-19 24-27 and 4-7 12-15 20-23 28-31.
void make_value_tiles(const std::byte* first, const std::byte* second, std::byte* to) {
  for (const std::byte* keys : {first, second}) {
    for (uint32_t i = 0; i < 8; ++i, keys += 128, to += 64) {
      const __m512i x = _mm512_load_si512(keys), y = _mm512_load_si512(keys + 64);
      _mm512_store_si512(to, _mm512_unpacklo_epi16(x, y));
      _mm512_store_si512(to + kTileBytes, _mm512_unpackhi_epi16(x, y));
    }
  }
}

/// Sums 0, 1 += both tiles of keys (16 positions each) times a tile of queries.
HYBRID_TILE_INLINE void multiply_keys(const std::byte* first, const std::byte* second,
                                      const std::byte* rest, const std::byte* q) {
  tile_load<4>(first), tile_load<5>(second), tile_load<6>(q);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 5, 6>();
  tile_load<7>(q + kTileBytes);
  tile_multiply<0, 4, 7>(), tile_multiply<1, 5, 7>();
  tile_load<4>(rest), tile_load<5>(rest + kTileBytes);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 5, 6>();
}

/// Sums 0, 1 += a tile of weights times both tiles of values (16 columns each).
HYBRID_TILE_INLINE void multiply_values(const std::byte* weights, const std::byte* values) {
  tile_load<4>(weights), tile_load<6>(values), tile_load<7>(values + kTileBytes);
  tile_multiply<0, 4, 6>(), tile_multiply<1, 4, 7>();
}

/// Scores of 16 queries, [position][query], become weights; maxima and sums go on. Returns the
/// factor of what was summed before.
__m512 weigh_scores(float* scores, uint32_t n_positions, __m512i n_visible, float* max_at,
                    float* sum_at, std::byte* weights) {
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
  __m512i rows[16];
  const auto weight = [&](uint32_t p) {
    const __mmask16 sees =
        _mm512_cmpgt_epi32_mask(n_visible, _mm512_set1_epi32(static_cast<int>(p)));
    const __m512 x = _mm512_sub_ps(_mm512_load_ps(scores + 16 * p), shift);
    const __m512 w = _mm512_maskz_mov_ps(sees, internal::exp<SimdLevel::avx512_vnni>(x));
    sum = _mm512_add_ps(sum, w);
    return w;
  };
  for (uint32_t p = 0; p < n_padded; p += 32, weights += kTileBytes) {
    for (uint32_t i = 0; i < 16; ++i) {
      const __m512 first = weight(p + 2 * i);
      rows[i] = bf16_pairs(rounded_to_bf16(first), rounded_to_bf16(weight(p + 2 * i + 1)));
    }
    transpose(rows);
    store_rows(rows, weights);
  }
  const __m512 factor = internal::exp<SimdLevel::avx512_vnni>(_mm512_sub_ps(before, shift));
  _mm512_store_ps(max_at, max);
  _mm512_store_ps(sum_at, _mm512_fmadd_ps(_mm512_load_ps(sum_at), factor, sum));
  return factor;
}

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

constexpr uint32_t kSteps = TileAttention::kPositions / 32;
constexpr uint32_t kMaxTiles = TileAttention::kMaxQueries / 16;

uint32_t n_tiles(uint32_t n_queries) { return (n_queries + 15) / 16; }

}  // namespace

void TileAttention::begin(const float* q, uint32_t n_queries, uint32_t key_dim,
                          uint32_t value_dim) {
  n_queries_ = n_queries;
  key_dim_ = key_dim;
  value_dim_ = value_dim;
  const uint64_t n_groups = key_dim / kTileCols;
  std::byte* to = reserve_tiles(q_, kMaxTiles * n_groups * 2);
  reserve_tiles(keys_, 2 * kSteps * n_groups);
  reserve_tiles(rests_, 2 * n_groups);
  reserve_tiles(weights_, kMaxTiles * kSteps);
  scores_.reserve(uint64_t{kMaxQueries} * kPositions);
  std::fill_n(sums_.reserve(uint64_t{kMaxQueries} * value_dim),
              uint64_t{16} * n_tiles(n_queries) * value_dim, 0.0f);
  float* softmax = softmax_.reserve(2 * kMaxQueries);
  std::fill_n(softmax, kMaxQueries, -INFINITY);
  std::fill_n(softmax + kMaxQueries, kMaxQueries, 0.0f);
  for (uint32_t t = 0; t < n_tiles(n_queries); ++t) {
    for (uint64_t g = 0; g < n_groups; ++g, to += kPairBytes) {
      make_query_tile(q + 16 * t * uint64_t{key_dim} + g * kTileCols, key_dim,
                      std::min(16u, n_queries - 16 * t), to);
    }
  }
}

void TileAttention::copy_sums(uint32_t query, float* to) const {
  const float* from = sums_.data() + uint64_t{query} * value_dim_;
  // Four columns at a time went to the first tile and to the second in turns.
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  for (uint32_t c = 0; c < value_dim_; c += kTileCols) {
    const __m512 first = _mm512_load_ps(from + c), second = _mm512_load_ps(from + c + 16);
    _mm512_storeu_ps(to + c, _mm512_permutex2var_ps(first, low, second));
    _mm512_storeu_ps(to + c + 16, _mm512_permutex2var_ps(first, high, second));
  }
}

/// Keys become tiles while those before them are multiplied with the first 16 queries.
void TileAttention::add_scores(const TileChunkArgs& args) {
  // A lambda: a template of the class would be a symbol that other levels' code could be linked to.
  const auto add = [&]<bool kF16>() {
    const uint64_t n_groups = key_dim_ / kTileCols, tile_stride = n_groups * kTileBytes;
    const uint32_t n_steps = (args.n_positions + 31) / 32;
    constexpr uint64_t kAheadBytes = 16 * kTileCols * kElementBytes<kF16>;
    for (uint32_t s = 0; s < n_steps; ++s) {
      std::byte *first = bytes(keys_) + 2 * s * tile_stride, *second = first + tile_stride;
      const auto make = [&](uint64_t g) {
        const auto column = static_cast<uint32_t>(g * kTileCols);
        const std::byte* ahead = args.rows + 32 * (s + 1) * args.row_bytes + 2 * g * kAheadBytes;
        std::byte* rest = bytes(rests_) + 2 * g * kTileBytes;
        make_key_tile<kF16>(args, 32 * s, column, ahead, first + g * kTileBytes, rest);
        make_key_tile<kF16>(args, 32 * s + 16, column, ahead + kAheadBytes, second + g * kTileBytes,
                            rest + kTileBytes);
      };
      make(0);
      for (uint32_t t = 0; t < n_tiles(n_queries_); ++t) {
        const std::byte* q = bytes(q_) + t * n_groups * kPairBytes;
        tile_zero<0>(), tile_zero<1>();
        for (uint64_t g = 0; g < n_groups; ++g) {
          if (t == 0 && g + 1 < n_groups) make(g + 1);
          multiply_keys(first + g * kTileBytes, second + g * kTileBytes,
                        bytes(rests_) + 2 * g * kTileBytes, q + g * kPairBytes);
        }
        float* scores = scores_.data() + (uint64_t{t} * kPositions + 32 * s) * 16;
        tile_store<0>(scores), tile_store<1>(scores + 256);
      }
    }
  };
  if (args.is_f16) {
    add.operator()<true>();
  } else {
    add.operator()<false>();
  }
}

void TileAttention::weigh(const TileChunkArgs& args) {
  for (uint32_t t = 0; t < n_tiles(n_queries_); ++t) {
    alignas(64) int32_t n_visible[16] = {};
    for (uint32_t i = 0; i < std::min(16u, n_queries_ - 16 * t); ++i) {
      n_visible[i] = static_cast<int32_t>(args.n_visible[16 * t + i]);
    }
    float* softmax = softmax_.data() + 16 * t;
    const __m512 factor =
        weigh_scores(scores_.data() + uint64_t{16} * t * kPositions, args.n_positions,
                     _mm512_load_si512(n_visible), softmax, softmax + kMaxQueries,
                     bytes(weights_) + t * kSteps * kTileBytes);
    scale_sums(sums_.data() + uint64_t{16} * t * value_dim_, value_dim_, factor);
  }
}

void TileAttention::add_values(uint32_t n_positions) {
  alignas(64) std::byte values[kSteps * kPairBytes];
  const uint64_t tile_stride = key_dim_ / kTileCols * kTileBytes;
  const uint32_t n_steps = (n_positions + 31) / 32;
  for (uint32_t c = 0; c < value_dim_; c += kTileCols) {
    for (uint32_t s = 0; s < n_steps; ++s) {
      const std::byte* keys = bytes(keys_) + 2 * s * tile_stride + c / kTileCols * kTileBytes;
      make_value_tiles(keys, keys + tile_stride, values + s * kPairBytes);
    }
    for (uint32_t t = 0; t < n_tiles(n_queries_); ++t) {
      float* sums = sums_.data() + uint64_t{16} * t * value_dim_ + c;
      tile_load<0>(sums, value_dim_ * sizeof(float));
      tile_load<1>(sums + 16, value_dim_ * sizeof(float));
      for (uint32_t s = 0; s < n_steps; ++s) {
        multiply_values(bytes(weights_) + (t * kSteps + s) * kTileBytes, values + s * kPairBytes);
      }
      tile_store<0>(sums, value_dim_ * sizeof(float));
      tile_store<1>(sums + 16, value_dim_ * sizeof(float));
    }
  }
}

void TileAttention::add(const TileChunkArgs& args) {
  const internal::TileScope tiles;
  add_scores(args);
  weigh(args);
  add_values(args.n_positions);
}

}  // namespace hybrid
