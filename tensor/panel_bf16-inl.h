#pragma once
// Body of the kernels of panel_bf16.h; compiled by panel_bf16_<family>_amx.cpp.
//
// Weights become bf16 by way of half floats: q (an integer, exact) times the scale minus the
// minimum, one fused operation, scaled by 2^e so that nothing over- or underflows (panel.h). A half
// float's 10 fraction bits are rounded to bf16's 7 and its bits shifted down by 3: with the 3
// exponent bits cleared that the shift filled with copies of the sign, this is the bf16 of the same
// value times 2^-112.
//
// While the matrix unit multiplies one block of 256 columns, the vector units unpack another: the
// next one of the same two panels where all tokens fit one pass, or the same one of the next two
// panels while the last of several passes runs over panels that are unpacked already.

#include <algorithm>
#include <cstring>
#include <memory>

#include "tensor/panel_bf16.h"
#include "tensor/panel_reader-inl.h"

namespace hybrid::internal {
namespace {

// ---- Tiles --------------------------------------------------------------------------------------
// Own statements instead of the intrinsics, whose operands are text to the preprocessor: these take
// template arguments. "memory": tiles are read from what vector stores have just written.

template <int kTile>
HYBRID_INLINE void tile_load(const void* p) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(uint64_t{64}), "i"(kTile) : "memory");
}
template <int kTile>
HYBRID_INLINE void tile_store(void* p) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(uint64_t{64}), "i"(kTile) : "memory");
}
template <int kTile>
HYBRID_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
/// Sums += activations * weights.
template <int kSums, int kActivations, int kWeights>
HYBRID_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kActivations),
               "i"(kWeights));
}

/// All eight tiles of 16 rows of 64 bytes, for as long as it lives.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t n_bytes[16] = {};
      uint8_t n_rows[16] = {};
    } config;
    static_assert(sizeof(Config) == 64);
    for (int i = 0; i < 8; ++i) {
      config.n_bytes[i] = 64;
      config.n_rows[i] = 16;
    }
    asm volatile("ldtilecfg (%0)" ::"r"(&config) : "memory");
  }
  ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// ---- Unpacking ----------------------------------------------------------------------------------

/// The half float of each lane's number in both words of the lane.
HYBRID_INLINE __m512h both_words(__m512 x) {
  const __m512i half = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  return reinterpret_cast<__m512h>(_mm512_or_si512(half, _mm512_slli_epi32(half, 16)));
}

/// Words of two integers of a row each -> bf16 of (integer * scale + offset), times 2^-112.
HYBRID_INLINE __m512i weights_of(__m512i words, __m512h scale, __m512h offset) {
  const __m512h value = _mm512_fmadd_ph(_mm512_cvtepu16_ph(words), scale, offset);
  const __m512i rounded =
      _mm512_add_epi16(reinterpret_cast<__m512i>(value), _mm512_set1_epi16(4));
  return _mm512_and_si512(_mm512_srai_epi16(rounded, 3),
                          _mm512_set1_epi16(static_cast<short>(0x8fff)));
}

/// Group g of a block -> one tile of weights: row 2 i has columns 4 i, 4 i + 2 of each panel row,
/// row 2 i + 1 has 4 i + 1, 4 i + 3.
template <class Reader>
HYBRID_INLINE void unpack_group(const Reader& reader, int g, __m512 factor, std::byte* tile) {
  using V = Lanes<SimdLevel::amx>;
  constexpr int kScales = kGroupCols / Reader::kScaleCols;
  constexpr int kQuadCount = kQuads / kScales;
  const __m512i even = _mm512_set1_epi32(0x00ff00ff);
#pragma GCC unroll 2
  for (int s = 0; s < kScales; ++s) {
    const __m512h scale = both_words(V::multiply(reader.scale(kScales * g + s), factor));
    const __m512 minimum = V::multiply(reader.minimum(kScales * g + s), factor);
    const __m512h offset = both_words(_mm512_sub_ps(_mm512_setzero_ps(), minimum));
#pragma GCC unroll 8
    for (int i = s * kQuadCount; i < (s + 1) * kQuadCount; ++i) {
      const __m512i q = reader.quad(g, i);
      _mm512_store_si512(tile + 128 * i,
                         weights_of(_mm512_and_si512(q, even), scale, offset));
      _mm512_store_si512(tile + 128 * i + 64, weights_of(_mm512_srli_epi16(q, 8), scale, offset));
    }
  }
}

/// F16: half floats already, scaled. The vectors are tile rows.
HYBRID_INLINE __m512i from_half(__m512i halves, __m512h factor) {
  const __m512h value = _mm512_mul_ph(reinterpret_cast<__m512h>(halves), factor);
  const __m512i rounded =
      _mm512_add_epi16(reinterpret_cast<__m512i>(value), _mm512_set1_epi16(4));
  return _mm512_and_si512(_mm512_srai_epi16(rounded, 3),
                          _mm512_set1_epi16(static_cast<short>(0x8fff)));
}

/// How a type becomes tiles; kExponent is the power of two that its tiles carry beside 2^e.
template <DType type>
struct TileUnpacker {
  static constexpr int kExponent = -112;
  using Reader = PanelReader<SimdLevel::amx, type>;
  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, float factor)
      : reader(panel, block), factors(_mm512_set1_ps(factor)) {}
  HYBRID_INLINE void unpack(int g, std::byte* tile) const {
    unpack_group(reader, g, factors, tile);
  }
  Reader reader;
  __m512 factors;
};

template <>
struct TileUnpacker<DType::f16> {
  static constexpr int kExponent = -112;
  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, float factor)
      : base(panel + block * kGroups * kTileBytes),
        factors(_mm512_set1_ph(static_cast<_Float16>(factor))) {}
  HYBRID_INLINE void unpack(int g, std::byte* tile) const {
    const std::byte* from = base + g * kTileBytes;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const __m512i halves = _mm512_load_si512(from + 64 * i);
      _mm512_store_si512(tile + 64 * i, from_half(halves, factors));
    }
  }
  const std::byte* base;
  __m512h factors;
};

template <>
struct TileUnpacker<DType::bf16> {
  static constexpr int kExponent = 0;
  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, float)
      : base(panel + block * kGroups * kTileBytes) {}
  HYBRID_INLINE void unpack(int g, std::byte* tile) const {
    std::memcpy(tile, base + g * kTileBytes, kTileBytes);
  }
  const std::byte* base;
};

// ---- Multiplying --------------------------------------------------------------------------------

/// One group of columns: kTiles tiles of tokens (at a distance of tile_stride) times the two tiles
/// of weights. Sums lie in tiles p * kTiles + j.
template <int kTiles>
HYBRID_INLINE void multiply_group(const std::byte* weights, const std::byte* tokens,
                                  uint64_t tile_stride) {
  if constexpr (kTiles == 1) {
    tile_load<6>(weights);
    tile_load<4>(tokens);
    tile_multiply<0, 4, 6>();
    tile_load<7>(weights + kTileBytes);
    tile_multiply<1, 4, 7>();
  } else if constexpr (kTiles == 2) {
    tile_load<6>(weights);
    tile_load<4>(tokens);
    tile_multiply<0, 4, 6>();
    tile_load<5>(tokens + tile_stride);
    tile_multiply<1, 5, 6>();
    tile_load<7>(weights + kTileBytes);
    tile_multiply<2, 4, 7>();
    tile_multiply<3, 5, 7>();
  } else {
    tile_load<6>(tokens);
    tile_load<7>(weights);
    tile_multiply<0, 6, 7>();
    tile_load<7>(weights + kTileBytes);
    tile_multiply<3, 6, 7>();
    tile_load<6>(tokens + tile_stride);
    tile_multiply<4, 6, 7>();
    tile_load<7>(weights);
    tile_multiply<1, 6, 7>();
    tile_load<6>(tokens + 2 * tile_stride);
    tile_multiply<2, 6, 7>();
    tile_load<7>(weights + kTileBytes);
    tile_multiply<5, 6, 7>();
  }
}

template <int kTiles>
HYBRID_INLINE void zero_sums() {
  tile_zero<0>();
  tile_zero<1>();
  if constexpr (kTiles >= 2) {
    tile_zero<2>();
    tile_zero<3>();
  }
  if constexpr (kTiles == 3) {
    tile_zero<4>();
    tile_zero<5>();
  }
}

template <int kTiles>
HYBRID_INLINE void store_sums(float* sums) {
  tile_store<0>(sums);
  tile_store<1>(sums + 256);
  if constexpr (kTiles >= 2) {
    tile_store<2>(sums + 512);
    tile_store<3>(sums + 768);
  }
  if constexpr (kTiles == 3) {
    tile_store<4>(sums + 1024);
    tile_store<5>(sums + 1280);
  }
}

/// A block of two panels that is to be unpacked.
struct BlockToUnpack {
  const std::byte* panel[2];
  uint64_t block;
  float factor[2];
  int n_groups;
  std::byte* tiles;        // group g: panel 0's tile at 2 g, panel 1's at 2 g + 1
  uint64_t block_bytes;    // of the packed panel, for prefetching
};

/// The block after the one being unpacked, a piece for each group.
HYBRID_INLINE void prefetch_piece(const BlockToUnpack& b, int g) {
  const uint64_t begin = b.block_bytes * static_cast<uint64_t>(g) / kGroups / kVectorBytes;
  const uint64_t end = b.block_bytes * static_cast<uint64_t>(g + 1) / kGroups / kVectorBytes;
  const uint64_t at = (b.block + 1) * b.block_bytes;
  for (uint64_t i = begin; i < end + 1; ++i) {
    __builtin_prefetch(b.panel[0] + at + i * kVectorBytes);
    __builtin_prefetch(b.panel[1] + at + i * kVectorBytes);
  }
}

template <DType type>
__attribute__((noinline)) void unpack_all(const BlockToUnpack& b) {
  const TileUnpacker<type> first(b.panel[0], b.block, b.factor[0]);
  const TileUnpacker<type> second(b.panel[1], b.block, b.factor[1]);
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) {
    if (g >= b.n_groups) break;
    prefetch_piece(b, g);
    first.unpack(g, b.tiles + 2 * g * kTileBytes);
    second.unpack(g, b.tiles + (2 * g + 1) * kTileBytes);
  }
}

/// Multiplies a block of n_groups groups.
template <int kTiles>
__attribute__((noinline)) void multiply_block(const std::byte* weights, const std::byte* tokens,
                                              uint64_t tile_stride, int n_groups) {
  for (int g = 0; g < n_groups; ++g) {
    multiply_group<kTiles>(weights + 2 * g * kTileBytes, tokens + g * kTileBytes, tile_stride);
  }
}

/// The same while another block is unpacked.
template <DType type, int kTiles>
__attribute__((noinline)) void multiply_and_unpack(const std::byte* weights,
                                                   const std::byte* tokens, uint64_t tile_stride,
                                                   int n_groups, const BlockToUnpack& b) {
  const TileUnpacker<type> first(b.panel[0], b.block, b.factor[0]);
  const TileUnpacker<type> second(b.panel[1], b.block, b.factor[1]);
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) {
    if (g < n_groups) {
      multiply_group<kTiles>(weights + 2 * g * kTileBytes, tokens + g * kTileBytes, tile_stride);
    }
    if (g < b.n_groups) {
      prefetch_piece(b, g);
      first.unpack(g, b.tiles + 2 * g * kTileBytes);
      second.unpack(g, b.tiles + (2 * g + 1) * kTileBytes);
    }
  }
}

// ---- A range of pairs ---------------------------------------------------------------------------

/// Grows and is never given back: a thread meets the same few row lengths over and over.
inline std::byte* tile_scratch(uint64_t n_bytes) {
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<std::byte[], Free> buffer;
  thread_local uint64_t size = 0;
  if (size < n_bytes) {
    buffer.reset(static_cast<std::byte*>(::operator new[](n_bytes, std::align_val_t{64})));
    size = n_bytes;
  }
  return buffer.get();
}

/// Tokens taken in passes of one to three tiles, none of one beside a larger one where it can be
/// helped.
inline uint64_t tiles_of_pass(uint64_t left) { return left == 4 ? 2 : std::min<uint64_t>(left, 3); }

template <DType type>
class PairLoop {
 public:
  PairLoop(const Bf16Product& args, uint64_t end)
      : args_(args),
        end_(end),
        n_groups_(n_tile_groups(args.first.n_cols)),
        n_blocks_((n_groups_ + kGroups - 1) / kGroups),
        panel_bytes_(args.first.panel_bytes()),
        one_pass_(args.n_tiles <= 3),
        ahead_(one_pass_ ? 1 : n_blocks_),
        ring_(scratch(one_pass_ ? 2 : 2 * n_blocks_)),
        n_ring_(one_pass_ ? 2 : 2 * n_blocks_) {}

  void run(uint64_t begin) {
    begin_ = begin;
    for (uint64_t i = 0; i < ahead_; ++i) unpack_all<type>(block_at(i));
    for (uint64_t pair = begin; pair < end_; ++pair) {
      for (uint64_t tile = 0; tile < args_.n_tiles;) {
        const uint64_t n = tiles_of_pass(args_.n_tiles - tile);
        if (n == 1) pass<1>(pair, tile);
        if (n == 2) pass<2>(pair, tile);
        if (n == 3) pass<3>(pair, tile);
        tile += n;
      }
    }
  }

 private:
  static std::byte* scratch(uint64_t n_blocks) {
    return tile_scratch(n_blocks * 2 * kGroups * kTileBytes);
  }
  int groups_in(uint64_t block) const {
    return static_cast<int>(std::min<uint64_t>(kGroups, n_groups_ - block * kGroups));
  }
  int panels_of(uint64_t pair) const {
    return !args_.second.empty() || 2 * pair + 1 < args_.first.n_panels() ? 2 : 1;
  }
  void panels_at(uint64_t pair, const std::byte* (&panel)[2], int (&exponent)[2]) const {
    const PanelMatrix& a = args_.first;
    const PanelMatrix& b = args_.second;
    const uint64_t i = b.empty() ? 2 * pair : pair;
    panel[0] = a.data + i * panel_bytes_;
    exponent[0] = a.exponents[i];
    if (!b.empty()) {
      panel[1] = b.data + i * panel_bytes_;
      exponent[1] = b.exponents[i];
    } else {
      const uint64_t j = std::min(i + 1, a.n_panels() - 1);  // an odd last panel stands twice
      panel[1] = a.data + j * panel_bytes_;
      exponent[1] = a.exponents[j];
    }
  }
  /// Block i of all blocks of all pairs from begin_ on.
  BlockToUnpack block_at(uint64_t i) const {
    BlockToUnpack b;
    int exponent[2];
    panels_at(begin_ + i / n_blocks_, b.panel, exponent);
    b.block = i % n_blocks_;
    for (int p = 0; p < 2; ++p) b.factor[p] = power_of_two(exponent[p]);
    b.n_groups = groups_in(b.block);
    b.tiles = ring_ + i % n_ring_ * 2 * kGroups * kTileBytes;
    b.block_bytes = panel_bytes_ / n_blocks_;
    return b;
  }
  static float power_of_two(int exponent) {
    return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  }

  template <int kTiles>
  void pass(uint64_t pair, uint64_t tile) {
    const bool last = tile + kTiles == args_.n_tiles;
    const uint64_t first = (pair - begin_) * n_blocks_, n_all = (end_ - begin_) * n_blocks_;
    const std::byte* tokens = args_.tiles + tile * n_groups_ * kTileBytes;
    const uint64_t stride = n_groups_ * kTileBytes;
    zero_sums<kTiles>();
    for (uint64_t b = 0; b < n_blocks_; ++b, tokens += kGroups * kTileBytes) {
      const std::byte* weights = ring_ + (first + b) % n_ring_ * 2 * kGroups * kTileBytes;
      const uint64_t next = first + b + ahead_;
      if (last && next < n_all) {
        multiply_and_unpack<type, kTiles>(weights, tokens, stride, groups_in(b), block_at(next));
      } else {
        multiply_block<kTiles>(weights, tokens, stride, groups_in(b));
      }
    }
    alignas(64) float sums[2 * kTiles * 256];
    store_sums<kTiles>(sums);
    Bf16Product::Sums result{pair, tile, kTiles, panels_of(pair), sums, {}};
    const std::byte* panel[2];
    int exponent[2];
    panels_at(pair, panel, exponent);
    for (int p = 0; p < 2; ++p) {
      const int scale = exponent[p] + TileUnpacker<type>::kExponent + kTileExponent;
      result.factor[p] = power_of_two(-scale);
    }
    args_.done(result);
  }

  const Bf16Product& args_;
  uint64_t begin_ = 0, end_;
  uint64_t n_groups_, n_blocks_, panel_bytes_;
  bool one_pass_;
  uint64_t ahead_;  // blocks that unpacking runs ahead
  std::byte* ring_;
  uint64_t n_ring_;  // blocks in it
};

template <DType type>
void product(const Bf16Product& args, uint64_t pair_begin, uint64_t pair_end) {
  if (pair_begin == pair_end || args.n_tiles == 0) return;
  const TileScope tiles;
  PairLoop<type>(args, pair_end).run(pair_begin);
}

}  // namespace
}  // namespace hybrid::internal
