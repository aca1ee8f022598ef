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
// While the matrix unit multiplies one stage of a panel (128 columns), the vector units unpack the
// next one. The two kinds of instructions alternate every dozen or so: few tile registers can be
// renamed, and behind a run of tile instructions the core takes in nothing else. With 13 of them at
// a time nothing overlapped. Up to six tiles of tokens share the unpacked weights: six sums, and
// one register each for tokens and weights.

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
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

/// Columns that are unpacked while as many are multiplied: 8 KB of tiles for both together, which
/// leaves room in the L1 cache for those of the tokens. Half a block.
constexpr int kStageGroups = 4;
constexpr uint64_t kStageBytes = kStageGroups * kTileBytes;

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
      const __m512 minimum = V::multiply(minimum_of<SimdLevel::amx>(reader, s), factors);
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

/// Where the operands of one group of columns lie: a tile of weights, and tiles of tokens at a
/// distance of tile_stride; the second parts of the tokens at a distance of `rest` from the first.
struct GroupOperands {
  const std::byte* weights;
  const std::byte* tokens;
  uint64_t tile_stride;
  int64_t rest;
};

/// The tile instructions of one group, in order: load the weights, then load and multiply each tile
/// of tokens, of both parts. Sums of token tile j lie in tile register j.
template <int kTiles, int kParts>
struct GroupProgram {
  static constexpr int kLength = 1 + 2 * kTiles * kParts;

  template <int kStep>
  HYBRID_INLINE static void run(const GroupOperands& o) {
    if constexpr (kStep == 0) {
      tile_load<7>(o.weights);
    } else {
      constexpr int kTile = (kStep - 1) / 2;
      const std::byte* tokens = o.tokens + kTile % kTiles * o.tile_stride;
      if constexpr (kStep % 2 == 1) tile_load<6>(kTile < kTiles ? tokens : tokens + o.rest);
      if constexpr (kStep % 2 == 0) tile_multiply<kTile % kTiles, 6, 7>();
    }
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

template <int... kTile>
HYBRID_INLINE void zero_sums(std::integer_sequence<int, kTile...>) {
  (tile_zero<kTile>(), ...);
}
template <int... kTile>
HYBRID_INLINE void store_sums(float* sums, std::integer_sequence<int, kTile...>) {
  (tile_store<kTile>(sums + 256 * kTile), ...);
}

/// A stage of a panel that is to be unpacked.
struct StageToUnpack {
  const std::byte* panel;
  const std::byte* ahead;  // bytes to prefetch: what is unpacked two stages later
  uint64_t stage;
  float factor;
  int n_groups;
  std::byte* tiles;      // that of group g at g
  uint64_t stage_bytes;  // of the packed panel
};

/// A piece of what comes two stages later, for each group.
HYBRID_INLINE void prefetch_piece(const StageToUnpack& s, int g) {
  const uint64_t begin = s.stage_bytes * static_cast<uint64_t>(g) / kStageGroups / kVectorBytes;
  const uint64_t end = s.stage_bytes * static_cast<uint64_t>(g + 1) / kStageGroups / kVectorBytes;
  for (uint64_t i = begin; i < end; ++i) __builtin_prefetch(s.ahead + i * kVectorBytes);
}

/// Unpacks group g of a stage while Program multiplies another group.
template <class Program, bool kSplit, class Unpacker, int... kStep>
HYBRID_INLINE void unpack_group(Unpacker& unpacker, int block_group, std::byte* tile,
                                const GroupOperands& o, std::integer_sequence<int, kStep...>) {
  const auto step = [&]<int i>() __attribute__((always_inline)) {
    unpacker.template step<kSplit>(block_group, i, tile);
    multiply_piece<Program, i, kQuads>(o);
  };
  (step.template operator()<kStep>(), ...);
}

/// Unpacks a stage while another, of n_groups groups, is multiplied. kHalf: which half of the
/// block.
template <DType type, class Program, bool kSplit, int kHalf>
__attribute__((noinline)) void unpack_and_multiply(const StageToUnpack& s, GroupOperands o,
                                                   int n_groups) {
  TileUnpacker<type> unpacker(s.panel, s.stage / 2, s.factor);
  constexpr auto kSteps = std::make_integer_sequence<int, kQuads>{};
#pragma GCC unroll 4
  for (int g = 0; g < kStageGroups; ++g) {
    const int block_group = kHalf * kStageGroups + g;
    std::byte* tile = s.tiles + g * kTileBytes;
    if (g < s.n_groups) prefetch_piece(s, g);
    if (g < n_groups && g < s.n_groups) {
      unpack_group<Program, kSplit>(unpacker, block_group, tile, o, kSteps);
    } else if (g < n_groups) {
      multiply_piece<Program, 0, 1>(o);
    } else if (g < s.n_groups) {
      unpack_group<EmptyProgram, kSplit>(unpacker, block_group, tile, o, kSteps);
    }
    o.weights += kTileBytes;
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
    o.weights += kTileBytes;
    o.tokens += kTileBytes;
  }
}

// ---- A range of pairs ---------------------------------------------------------------------------

/// The stages of all panels of a range, one after the other: stage i + 1 is unpacked while stage i
/// is multiplied, across the ends of panels. kSplit: args.split_weights.
template <DType type, bool kSplit>
class PairLoop {
 public:
  PairLoop(const Bf16Product& args, uint64_t begin, uint64_t end)
      : args_(args),
        begin_(begin),
        n_groups_(n_tile_groups(args.first.n_cols)),
        n_stages_((n_groups_ + kStageGroups - 1) / kStageGroups),
        panel_bytes_(args.first.panel_bytes()) {
    n_panels_ = 2 * (end - begin);
    if (args.second.empty()) n_panels_ = std::min(n_panels_, args.first.n_panels() - 2 * begin);
  }

  void run() {
    switch (args_.n_tiles) {
      case 1:
        return run_tiles<1>();
      case 2:
        return run_tiles<2>();
      case 3:
        return run_tiles<3>();
      case 4:
        return run_tiles<4>();
      case 5:
        return run_tiles<5>();
      default:
        return run_tiles<6>();
    }
  }

 private:
  /// Split weights lose nothing that is to be made up for; bf16 ones are never cut.
  static constexpr float kMadeUp = kSplit ? 1.0f : kCutOff;
  static constexpr uint64_t kSlotBytes = (kSplit ? 2 : 1) * kStageBytes;

  template <int kTiles>
  void run_tiles() {
    if constexpr (kSplit) {
      run_program<kTiles, SplitProgram<kTiles>>();
    } else if (args_.rest == nullptr) {
      run_program<kTiles, GroupProgram<kTiles, 1>>();
    } else {
      run_program<kTiles, GroupProgram<kTiles, 2>>();
    }
  }

  template <int kTiles, class Program>
  void run_program() {
    alignas(64) float sums[2][kTiles * 256];
    run_stage<type, EmptyProgram, kSplit>(stage_at(0), {}, 0);
    for (uint64_t panel = 0; panel < n_panels_; ++panel) {
      multiply_panel<kTiles, Program>(panel, sums[panel % 2]);
      if (panel % 2 == 1 || panel + 1 == n_panels_) finish<kTiles>(panel, sums[0]);
    }
  }

  template <int kTiles, class Program>
  void multiply_panel(uint64_t panel, float* sums) {
    constexpr auto kAll = std::make_integer_sequence<int, kTiles>{};
    const uint64_t first = panel * n_stages_, n_all = n_panels_ * n_stages_;
    GroupOperands o{nullptr, args_.tiles, n_groups_ * kTileBytes,
                    args_.rest == nullptr ? 0 : args_.rest - args_.tiles};
    zero_sums(kAll);
    for (uint64_t i = first; i < first + n_stages_; ++i, o.tokens += kStageGroups * kTileBytes) {
      o.weights = slot(i);
      if (i + 1 < n_all) {
        run_stage<type, Program, kSplit>(stage_at(i + 1), o, groups_in(i % n_stages_));
      } else {
        multiply_stage<Program>(o, groups_in(i % n_stages_));
      }
    }
    store_sums(sums, kAll);
  }

  template <int kTiles>
  void finish(uint64_t panel, const float* sums) {
    Bf16Product::Sums result{
        begin_ + panel / 2, 0, kTiles, static_cast<int>(panel % 2) + 1, sums, {}};
    for (uint64_t p = 0; p <= panel % 2; ++p) {
      const int scale =
          panel_at(panel - panel % 2 + p).exponent + TileUnpacker<type>::kExponent + kTileExponent;
      result.factor[p] = power_of_two(-scale);
    }
    args_.done(result);
  }

  struct Panel {
    const std::byte* bytes;
    int exponent;
  };
  /// Panel i of the range: those of a pair follow each other.
  Panel panel_at(uint64_t i) const {
    const bool both = !args_.second.empty();
    const PanelMatrix& m = both && i % 2 == 1 ? args_.second : args_.first;
    const uint64_t at = both ? begin_ + i / 2 : 2 * begin_ + i;
    return {m.data + at * panel_bytes_, m.exponents[at]};
  }

  int groups_in(uint64_t stage) const {
    return static_cast<int>(std::min<uint64_t>(kStageGroups, n_groups_ - stage * kStageGroups));
  }
  std::byte* slot(uint64_t i) { return ring_ + i % 2 * kSlotBytes; }

  /// Stage i of all stages of all panels.
  StageToUnpack stage_at(uint64_t i) {
    const uint64_t bytes = panel_bytes_ / n_stages_;
    const uint64_t later = std::min(i + 2, n_panels_ * n_stages_ - 1);
    const Panel panel = panel_at(i / n_stages_);
    return {panel.bytes,
            panel_at(later / n_stages_).bytes + later % n_stages_ * bytes,
            i % n_stages_,
            power_of_two(panel.exponent) * kMadeUp,
            groups_in(i % n_stages_),
            slot(i),
            bytes};
  }
  static float power_of_two(int exponent) {
    return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  }

  const Bf16Product& args_;
  uint64_t begin_;
  uint64_t n_groups_, n_stages_, panel_bytes_;
  uint64_t n_panels_;
  alignas(64) std::byte ring_[2 * kSlotBytes];  // unpacked weights of two stages
};

/// kCanSplit: whether the type has kernels for split weights.
template <DType type, bool kCanSplit>
void product(const Bf16Product& args, uint64_t pair_begin, uint64_t pair_end) {
  HYBRID_CHECK(args.n_tiles <= Bf16Product::kMaxTiles);
  if (pair_begin == pair_end || args.n_tiles == 0) return;
  const TileScope tiles;
  if constexpr (kCanSplit) {
    if (args.split_weights && args.rest != nullptr) {
      return PairLoop<type, true>(args, pair_begin, pair_end).run();
    }
  }
  PairLoop<type, false>(args, pair_begin, pair_end).run();
}

/// Null for a type that is not in the list.
template <bool kCanSplit, class Types>
Bf16ProductFn product_of(Types types, DType type) {
  return for_type<Bf16ProductFn>(types, type,
                                 []<DType t>() -> Bf16ProductFn { return product<t, kCanSplit>; });
}

}  // namespace
}  // namespace hybrid::internal
