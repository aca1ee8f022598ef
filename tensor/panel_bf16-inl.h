#pragma once
// Body of the kernels of panel_bf16.h; compiled by panel_bf16_<family>_amx.cpp.
//
// Weights become bf16 by way of half floats: q (an integer, exact) times the scale minus the
// minimum, one fused operation, scaled by 2^e so that nothing over- or underflows (panel.h). The
// bits of a half float are then shifted down by 3: with the 3 exponent bits cleared that the shift
// filled with copies of the sign, this is the bf16 of the same value times 2^-112, cut off instead
// of rounded. Cutting off shrinks a weight by 0.25 % on average, which the scale makes up for; what
// is left is 5 % more than rounding would leave, for one instruction of six.
//
// While the matrix unit multiplies one stage (128 columns of two panels), the vector units unpack
// another: the next one where all tokens fit one pass, or the same one of the next two panels while
// the last of several passes runs over panels that are unpacked already. The two kinds of
// instructions alternate every dozen or so: few tile registers can be renamed, and behind a run of
// tile instructions the core takes in nothing else. With 13 of them at a time nothing overlapped.

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

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

/// What cutting off three bits takes from a number on average: 7/16 of 2^-7, divided by a fraction
/// between 1 and 2 whose logarithm is uniform.
constexpr float kCutOff = 1.0f + 0.4375f * 0x1p-7f * 0.7213f;

/// Half floats -> the bf16 of the same values times 2^-112.
HYBRID_INLINE __m512i cut_to_bf16(__m512h x) {
  return _mm512_and_si512(_mm512_srai_epi16(reinterpret_cast<__m512i>(x), 3),
                          _mm512_set1_epi16(static_cast<short>(0x8fff)));
}

/// What cut_to_bf16 cuts off, as half floats again; exact, but for what is subnormal.
HYBRID_INLINE __m512h cut_off_part(__m512h x) {
  const __m512i kept =
      _mm512_and_si512(reinterpret_cast<__m512i>(x), _mm512_set1_epi16(static_cast<short>(0xfff8)));
  return _mm512_sub_ph(x, reinterpret_cast<__m512h>(kept));
}

/// Columns that are unpacked while as many are multiplied: 16 KB of tiles for both together, which
/// leaves room in the L1 cache for those of the tokens. Half a block.
constexpr int kStageGroups = 4;
constexpr uint64_t kStageBytes = 2 * kStageGroups * kTileBytes;

/// Tiles of the second parts of weights lie behind those of the first.
constexpr uint64_t kSplitDistance = kStageBytes;

/// A vector of weights to its place in a tile. kSplit: not made up for what is cut off; that goes
/// to the tile of the second parts.
template <bool kSplit>
HYBRID_INLINE void store_weights(std::byte* to, __m512h x) {
  _mm512_store_si512(to, cut_to_bf16(x));
  if constexpr (kSplit) _mm512_store_si512(to + kSplitDistance, cut_to_bf16(cut_off_part(x)));
}

/// How a type becomes tiles of weights. The tile of group g: row 2 i has columns 4 i, 4 i + 2 of
/// each panel row, row 2 i + 1 has 4 i + 1, 4 i + 3. kExponent is the power of two that its values
/// carry beside 2^e.
template <DType type>
struct TileUnpacker {
  using V = Lanes<SimdLevel::amx>;
  using Reader = PanelReader<SimdLevel::amx, type>;
  static constexpr int kExponent = -112;
  static constexpr int kScales = kGroupCols / Reader::kScaleCols;
  static constexpr int kQuadsOfScale = kQuads / kScales;

  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, float factor)
      : reader(panel, block), factors(_mm512_set1_ps(factor)) {}

  /// Rows 2 i and 2 i + 1 of group g; i from 0 to 7 in order.
  template <bool kSplit>
  HYBRID_INLINE void step(int g, int i, std::byte* tile) {
    if (i % kQuadsOfScale == 0) {
      const int s = kScales * g + i / kQuadsOfScale;
      scale = both_words(V::multiply(reader.scale(s), factors));
      const __m512 minimum = V::multiply(reader.minimum(s), factors);
      offset = both_words(_mm512_sub_ps(_mm512_setzero_ps(), minimum));
    }
    const __m512i q = reader.quad(g, i);
    const __m512i even = _mm512_and_si512(q, _mm512_set1_epi32(0x00ff00ff));
    store_weights<kSplit>(tile + 128 * i, weights(even));
    store_weights<kSplit>(tile + 128 * i + 64, weights(_mm512_srli_epi16(q, 8)));
  }
  HYBRID_INLINE __m512h weights(__m512i words) const {
    return _mm512_fmadd_ph(_mm512_cvtepu16_ph(words), scale, offset);
  }

  Reader reader;
  __m512 factors;
  __m512h scale, offset;
};

/// Half floats already; the vectors are tile rows.
template <>
struct TileUnpacker<DType::f16> {
  static constexpr int kExponent = -112;
  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, float factor)
      : base(panel + block * kGroups * kTileBytes),
        factors(_mm512_set1_ph(static_cast<_Float16>(factor))) {}
  template <bool kSplit>
  HYBRID_INLINE void step(int g, int i, std::byte* tile) const {
#pragma GCC unroll 2
    for (int row = 2 * i; row < 2 * i + 2; ++row) {
      const __m512i halves = _mm512_load_si512(base + g * kTileBytes + 64 * row);
      store_weights<kSplit>(tile + 64 * row,
                            _mm512_mul_ph(reinterpret_cast<__m512h>(halves), factors));
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
  template <bool kSplit>
  HYBRID_INLINE void step(int g, int i, std::byte* tile) const {
    std::memcpy(tile + 128 * i, base + g * kTileBytes + 128 * i, 128);
    if constexpr (kSplit) std::memset(tile + 128 * i + kSplitDistance, 0, 128);
  }
  const std::byte* base;
};

// ---- Multiplying --------------------------------------------------------------------------------

/// Where the operands of one group of columns lie: two tiles of weights, and tiles of tokens at a
/// distance of tile_stride; the second parts of the tokens at a distance of `rest` from the first.
struct GroupOperands {
  const std::byte* weights;
  const std::byte* tokens;
  uint64_t tile_stride;
  int64_t rest;
};

/// The tile instructions of one group, in order. Sums of panel p and token tile j lie in tile
/// register p * kTiles + j; that leaves 6 for tokens and 7 for weights. Each tile of tokens (of
/// both parts) meets both tiles of weights, the one that is loaded first:
///   tokens 0, weights 0, multiply, weights 1, multiply;
///   tokens 1, multiply, weights 0, multiply;    tokens 2, multiply, weights 1, multiply; ...
template <int kTiles, int kParts>
struct GroupProgram {
  static constexpr int kLength = 1 + 4 * kTiles * kParts;

  template <int kStep>
  HYBRID_INLINE static void run(const GroupOperands& o) {
    if constexpr (kStep == 0) {
      load_tokens<0>(o);
    } else if constexpr (kStep <= 4) {
      if constexpr (kStep % 2 == 1) tile_load<7>(o.weights + kStep / 2 * kTileBytes);
      if constexpr (kStep % 2 == 0) tile_multiply<(kStep / 2 - 1) * kTiles, 6, 7>();
    } else {
      constexpr int kTile = 1 + (kStep - 5) / 4, kPhase = (kStep - 5) % 4;
      constexpr int kLoaded = kTile % 2, kOther = 1 - kLoaded;  // of the two tiles of weights
      if constexpr (kPhase == 0) load_tokens<kTile>(o);
      if constexpr (kPhase == 1) tile_multiply<kLoaded * kTiles + kTile % kTiles, 6, 7>();
      if constexpr (kPhase == 2) tile_load<7>(o.weights + kOther * kTileBytes);
      if constexpr (kPhase == 3) tile_multiply<kOther * kTiles + kTile % kTiles, 6, 7>();
    }
  }

  template <int kTile>
  HYBRID_INLINE static void load_tokens(const GroupOperands& o) {
    const std::byte* tokens = o.tokens + kTile % kTiles * o.tile_stride;
    tile_load<6>(kTile < kTiles ? tokens : tokens + o.rest);
  }
};

/// Both parts of the tokens times the first parts of the weights, then the first part of the tokens
/// times the second parts of the weights.
template <int kTiles>
struct SplitProgram {
  using Main = GroupProgram<kTiles, 2>;
  using Rest = GroupProgram<kTiles, 1>;
  static constexpr int kLength = Main::kLength + Rest::kLength;

  template <int kStep>
  HYBRID_INLINE static void run(const GroupOperands& o) {
    if constexpr (kStep < Main::kLength) {
      Main::template run<kStep>(o);
    } else {
      GroupOperands second = o;
      second.weights += kSplitDistance;
      Rest::template run<kStep - Main::kLength>(second);
    }
  }
};

/// Those steps of a group's program that fall to piece kPiece of kPieces.
template <class Program, int kPiece, int kPieces, int... kStep>
HYBRID_INLINE void run_piece(const GroupOperands& o, std::integer_sequence<int, kStep...>) {
  ((kStep * kPieces / Program::kLength == kPiece ? Program::template run<kStep>(o) : void()), ...);
}

template <class Program, int kPiece, int kPieces>
HYBRID_INLINE void multiply_piece(const GroupOperands& o) {
  run_piece<Program, kPiece, kPieces>(o, std::make_integer_sequence<int, Program::kLength>{});
}

/// No tokens: nothing to multiply.
struct EmptyProgram {
  static constexpr int kLength = 0;
};

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

/// A stage of two panels that is to be unpacked.
struct StageToUnpack {
  const std::byte* panel[2];
  uint64_t stage;
  float factor[2];
  int n_groups;
  std::byte* tiles;      // group g: panel 0's tile at 2 g, panel 1's at 2 g + 1
  uint64_t stage_bytes;  // of the packed panel, for prefetching
};

/// A piece of what comes two stages later, for each group.
HYBRID_INLINE void prefetch_piece(const StageToUnpack& s, int g) {
  const uint64_t begin = s.stage_bytes * static_cast<uint64_t>(g) / kStageGroups / kVectorBytes;
  const uint64_t end = s.stage_bytes * static_cast<uint64_t>(g + 1) / kStageGroups / kVectorBytes;
  const uint64_t at = (s.stage + 2) * s.stage_bytes;
  for (uint64_t i = begin; i < end; ++i) {
    __builtin_prefetch(s.panel[0] + at + i * kVectorBytes);
    __builtin_prefetch(s.panel[1] + at + i * kVectorBytes);
  }
}

/// Unpacks group g of a stage while Program multiplies another group.
template <class Program, bool kSplit, class Unpacker, int... kStep>
HYBRID_INLINE void unpack_group(Unpacker& first, Unpacker& second, int block_group,
                                std::byte* tiles, const GroupOperands& o,
                                std::integer_sequence<int, kStep...>) {
  constexpr int kPieces = 2 * kQuads;
  const auto step = [&]<int i>() __attribute__((always_inline)) {
    first.template step<kSplit>(block_group, i, tiles);
    multiply_piece<Program, 2 * i, kPieces>(o);
    second.template step<kSplit>(block_group, i, tiles + kTileBytes);
    multiply_piece<Program, 2 * i + 1, kPieces>(o);
  };
  (step.template operator()<kStep>(), ...);
}

/// Unpacks a stage while another, of n_groups groups, is multiplied. kHalf: which half of the
/// block.
template <DType type, class Program, bool kSplit, int kHalf>
__attribute__((noinline)) void unpack_and_multiply(const StageToUnpack& s, GroupOperands o,
                                                   int n_groups) {
  const uint64_t block = s.stage / 2;
  TileUnpacker<type> first(s.panel[0], block, s.factor[0]);
  TileUnpacker<type> second(s.panel[1], block, s.factor[1]);
  constexpr auto kSteps = std::make_integer_sequence<int, kQuads>{};
#pragma GCC unroll 4
  for (int g = 0; g < kStageGroups; ++g) {
    const int block_group = kHalf * kStageGroups + g;
    std::byte* tiles = s.tiles + 2 * g * kTileBytes;
    if (g < s.n_groups) prefetch_piece(s, g);
    if (g < n_groups && g < s.n_groups) {
      unpack_group<Program, kSplit>(first, second, block_group, tiles, o, kSteps);
    } else if (g < n_groups) {
      multiply_piece<Program, 0, 1>(o);
    } else if (g < s.n_groups) {
      unpack_group<EmptyProgram, kSplit>(first, second, block_group, tiles, o, kSteps);
    }
    o.weights += 2 * kTileBytes;
    o.tokens += kTileBytes;
  }
}

template <DType type, class Program, bool kSplit>
HYBRID_INLINE void run_stage(const StageToUnpack& s, const GroupOperands& o, int n_groups) {
  if (s.stage % 2 == 0) {
    unpack_and_multiply<type, Program, kSplit, 0>(s, o, n_groups);
  } else {
    unpack_and_multiply<type, Program, kSplit, 1>(s, o, n_groups);
  }
}

/// Multiplies a stage that has nothing to be unpacked beside it.
template <class Program>
__attribute__((noinline)) void multiply_stage(GroupOperands o, int n_groups) {
  for (int g = 0; g < n_groups; ++g) {
    multiply_piece<Program, 0, 1>(o);
    o.weights += 2 * kTileBytes;
    o.tokens += kTileBytes;
  }
}

// ---- A range of pairs ---------------------------------------------------------------------------

/// Tokens taken in passes of one to three tiles, none of one beside a larger one where it can be
/// helped.
inline uint64_t tiles_of_pass(uint64_t left) { return left == 4 ? 2 : std::min<uint64_t>(left, 3); }

/// kSplit: args.split_weights.
template <DType type, bool kSplit>
class PairLoop {
 public:
  PairLoop(const Bf16Product& args, uint64_t end)
      : args_(args),
        end_(end),
        n_groups_(n_tile_groups(args.first.n_cols)),
        n_stages_((n_groups_ + kStageGroups - 1) / kStageGroups),
        panel_bytes_(args.first.panel_bytes()),
        one_pass_(args.n_tiles <= 3),
        ahead_(one_pass_ ? 1 : n_stages_),
        ring_(panel_scratch((one_pass_ ? 2 : 2 * n_stages_) * kSlotBytes)),
        n_ring_(one_pass_ ? 2 : 2 * n_stages_) {}

  void run(uint64_t begin) {
    begin_ = begin;
    for (uint64_t i = 0; i < ahead_; ++i) run_stage<type, EmptyProgram, kSplit>(stage_at(i), {}, 0);
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
  static constexpr uint64_t kSlotBytes = (kSplit ? 2 : 1) * kStageBytes;

  int groups_in(uint64_t stage) const {
    return static_cast<int>(std::min<uint64_t>(kStageGroups, n_groups_ - stage * kStageGroups));
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
  /// Stage i of all stages of all pairs from begin_ on.
  StageToUnpack stage_at(uint64_t i) const {
    StageToUnpack s;
    int exponent[2];
    panels_at(begin_ + i / n_stages_, s.panel, exponent);
    s.stage = i % n_stages_;
    for (int p = 0; p < 2; ++p) s.factor[p] = power_of_two(exponent[p]) * kMadeUp;
    s.n_groups = groups_in(s.stage);
    s.tiles = ring_ + i % n_ring_ * kSlotBytes;
    s.stage_bytes = panel_bytes_ / n_stages_;
    return s;
  }
  /// Split weights lose nothing that is to be made up for; bf16 ones are never cut.
  static constexpr float kMadeUp = kSplit ? 1.0f : kCutOff;
  static float power_of_two(int exponent) {
    return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  }

  template <int kTiles>
  void pass(uint64_t pair, uint64_t tile) {
    if constexpr (kSplit) {
      pass_of<kTiles, SplitProgram<kTiles>>(pair, tile);
    } else if (args_.rest == nullptr) {
      pass_of<kTiles, GroupProgram<kTiles, 1>>(pair, tile);
    } else {
      pass_of<kTiles, GroupProgram<kTiles, 2>>(pair, tile);
    }
  }

  template <int kTiles, class Program>
  void pass_of(uint64_t pair, uint64_t tile) {
    const bool last = tile + kTiles == args_.n_tiles;
    const uint64_t first = (pair - begin_) * n_stages_, n_all = (end_ - begin_) * n_stages_;
    GroupOperands o{nullptr, args_.tiles + tile * n_groups_ * kTileBytes, n_groups_ * kTileBytes,
                    args_.rest == nullptr ? 0 : args_.rest - args_.tiles};
    zero_sums<kTiles>();
    for (uint64_t i = 0; i < n_stages_; ++i, o.tokens += kStageGroups * kTileBytes) {
      o.weights = ring_ + (first + i) % n_ring_ * kSlotBytes;
      const uint64_t next = first + i + ahead_;
      if (last && next < n_all) {
        run_stage<type, Program, kSplit>(stage_at(next), o, groups_in(i));
      } else {
        multiply_stage<Program>(o, groups_in(i));
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
  uint64_t n_groups_, n_stages_, panel_bytes_;
  bool one_pass_;
  uint64_t ahead_;  // stages that unpacking runs ahead
  std::byte* ring_;
  uint64_t n_ring_;  // stages in it
};

/// kCanSplit: whether the type has kernels for split weights.
template <DType type, bool kCanSplit>
void product(const Bf16Product& args, uint64_t pair_begin, uint64_t pair_end) {
  if (pair_begin == pair_end || args.n_tiles == 0) return;
  const TileScope tiles;
  if constexpr (kCanSplit) {
    if (args.split_weights && args.rest != nullptr) {
      return PairLoop<type, true>(args, pair_end).run(pair_begin);
    }
  }
  PairLoop<type, false>(args, pair_end).run(pair_begin);
}

}  // namespace
}  // namespace hybrid::internal
