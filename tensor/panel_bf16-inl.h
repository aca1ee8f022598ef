#pragma once
// Body of the kernels of panel_bf16.h; compiled by panel_bf16_<family>_amx.cpp.
//
// Weights become bf16 by way of half floats: q (an integer, exact) times the scale minus the
// minimum, one fused operation, scaled by 2^e so that nothing over- or underflows (panel.h). The
// bits of a half float are then shifted down by 3: with the 3 exponent bits cleared that the shift
// filled with copies of the sign, this is the bf16 of the same value times 2^-112, cut off instead
// of rounded. Cutting off shrinks a weight by 0.25 % on average, which the scale makes up for; what
// is left is 5 % more than rounding would leave, for one instruction of five.
//
// A product lasts 16 cycles; while some are in flight, vector instructions other than masks and
// additions run one in a cycle instead of two (docs/kernels.md), and unpacking a tile of weights
// takes 60 of them. What counts is how many products share an unpacked tile, then how few loads
// they need, above all of tokens, whose tiles come from the L2 cache. Three tiles of tokens meet
// two panels at a time: six sums, which leave one register each for tokens and weights, and seven
// loads for six products.
//
// While one group of columns is multiplied, the next one is unpacked; the instructions alternate.
// Both lie in the L1 cache, and so little of it is taken that the tokens' tiles hurry through the
// rest.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "tensor/panel_bf16.h"
#include "tensor/panel_halves-inl.h"
#include "tensor/tile_ops-inl.h"

namespace hybrid::internal {
namespace {

// ---- Unpacking ----------------------------------------------------------------------------------

/// What cutting off three bits takes from a number on average: 7/16 of 2^-7, divided by a fraction
/// between 1 and 2 whose logarithm is uniform. Scales make up for it, so that those with few bits
/// give average numbers, too; where scales are half floats the sums make up for the rest.
constexpr float kCutOff = 1.0f + 0.4375f * 0x1p-7f * 0.7213f;
constexpr float kCutOffHalf = 1.0f + 0x1p-9f;

/// Half floats -> the bf16 of the same values times 2^-112.
HYBRID_INLINE __m512i cut_to_bf16(__m512h x) {
  return _mm512_and_si512(_mm512_srai_epi16(reinterpret_cast<__m512i>(x), 3),
                          _mm512_set1_epi16(static_cast<short>(0x8fff)));
}

/// Unpacked weights lie in a ring of the last groups: a page for each panel.
constexpr int kRingGroups = 4;
constexpr uint64_t kPanelDistance = kRingGroups * kTileBytes;

/// How a type becomes tiles of weights. The tile of group g: row 2 i has columns 4 i, 4 i + 2 of
/// each panel row, row 2 i + 1 has 4 i + 1, 4 i + 3. kExponent is the power of two that its values
/// carry beside 2^e, kMadeUp the factor for what is cut off.
template <DType type>
struct TileUnpacker {
  static constexpr int kPeriod = HalfUnpacker<type>::kPeriod;
  static constexpr int kExponent = -112;
  static constexpr float kMadeUp = HalfUnpacker<type>::kExactScales ? kCutOffHalf : kCutOff;

  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, int exponent)
      : halves(panel, block, RowFactors(exponent, kMadeUp)) {}

  /// Rows 2 i and 2 i + 1 of group g; i from 0 to 7 in order.
  HYBRID_INLINE void step(int g, int i, std::byte* tile) {
    const HalfPair pair = halves.step(g, i);
    _mm512_store_si512(tile + 128 * i, cut_to_bf16(pair.even));
    _mm512_store_si512(tile + 128 * i + 64, cut_to_bf16(pair.odd));
  }

  HalfUnpacker<type> halves;
};

template <>
struct TileUnpacker<DType::bf16> {
  static constexpr int kPeriod = kGroups;
  static constexpr int kExponent = 0;
  static constexpr float kMadeUp = kCutOff;  // nothing is cut off
  HYBRID_INLINE TileUnpacker(const std::byte* panel, uint64_t block, int)
      : base(panel + block * kGroups * kTileBytes) {}
  HYBRID_INLINE void step(int g, int i, std::byte* tile) const {
    std::memcpy(tile + 128 * i, base + g * kTileBytes + 128 * i, 128);
  }
  const std::byte* base;
};

// ---- Multiplying --------------------------------------------------------------------------------

/// Where the operands of one group of columns lie: the tile of the first panel's weights, the
/// other's at the distance above, and tiles of tokens at a distance of tile_stride; the second
/// parts of the tokens at a distance of `rest` from the first.
struct GroupOperands {
  const std::byte* weights;
  const std::byte* tokens;
  uint64_t tile_stride;
  int64_t rest;
};

/// One tile instruction. Tokens lie in register 6, weights in 7, sums in 0 to 5.
struct TileStep {
  enum Kind { load_tokens, load_weights, multiply } kind;
  int a = 0;     // token tile; panel; sum
  int part = 0;  // of the tokens
};

/// The tile instructions of one group of columns. kParts: of the tokens.
template <int kTiles_, int kParts_>
struct GroupProgram {
  static constexpr int kTiles = kTiles_, kParts = kParts_;
  static constexpr int kSums = 2 * kTiles;

  struct Steps {
    TileStep at[32] = {};
    int n = 0;
    constexpr void add(TileStep step) { at[n++] = step; }
  };
  /// From one product to the next either the tokens or the weights stay: one part of a tile of
  /// tokens meets the panels in one order, the next in the other.
  static constexpr Steps make() {
    Steps steps;
    int panel = 0;
    steps.add({TileStep::load_tokens, 0, 0});
    steps.add({TileStep::load_weights, panel});
    for (int i = 0; i < kTiles * kParts; ++i) {
      const int tile = i / kParts, x = i % kParts;
      if (i > 0) steps.add({TileStep::load_tokens, tile, tile % 2 == 1 ? kParts - 1 - x : x});
      steps.add({TileStep::multiply, panel * kTiles + tile});
      panel = 1 - panel;
      steps.add({TileStep::load_weights, panel});
      steps.add({TileStep::multiply, panel * kTiles + tile});
    }
    return steps;
  }
  static constexpr Steps kSteps = make();
  static constexpr int kLength = kSteps.n;
  static_assert(kLength == 4 * kTiles * kParts + 1, "a load for each product");

  template <int kStep>
  HYBRID_INLINE static void run(const GroupOperands& o) {
    constexpr TileStep step = kSteps.at[kStep];
    if constexpr (step.kind == TileStep::load_tokens) {
      const std::byte* tokens = o.tokens + step.a * o.tile_stride;
      tile_load<6>(step.part == 0 ? tokens : tokens + o.rest);
    } else if constexpr (step.kind == TileStep::load_weights) {
      tile_load<7>(o.weights + step.a * kPanelDistance);
    } else {
      tile_multiply<step.a, 6, 7>();
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

template <int... kSum>
HYBRID_INLINE void zero_sums(std::integer_sequence<int, kSum...>) {
  (tile_zero<kSum>(), ...);
}
template <int... kSum>
HYBRID_INLINE void store_sums(float* sums, std::integer_sequence<int, kSum...>) {
  (tile_store<kSum>(sums + 256 * kSum), ...);
}

/// A block of 256 columns of two panels.
struct BlockOfPair {
  struct Source {
    const std::byte* panel;
    const std::byte* ahead;  // bytes to prefetch: the block after this one
    int exponent;
  } sources[2];
  uint64_t block;
  int n_groups;
  int ring_at;           // place of group 0
  uint64_t block_bytes;  // of a packed panel
};

/// A group's piece of the block after it.
HYBRID_INLINE void prefetch_piece(const std::byte* ahead, uint64_t block_bytes, int g) {
  const uint64_t begin = block_bytes * static_cast<uint64_t>(g) / kGroups / kVectorBytes;
  const uint64_t end = block_bytes * static_cast<uint64_t>(g + 1) / kGroups / kVectorBytes;
  for (uint64_t i = begin; i < end; ++i) __builtin_prefetch(ahead + i * kVectorBytes);
}

HYBRID_INLINE std::byte* ring_tile(std::byte* ring, const BlockOfPair& b, int g) {
  return ring + static_cast<uint64_t>(b.ring_at + g) % kRingGroups * kTileBytes;
}

/// Unpacks a group of one panel while half kHalf of a group's Program runs; an empty one, if any.
template <class Program, int kHalf, class Unpacker, int... kStep>
HYBRID_INLINE void unpack_panel(Unpacker& unpacker, int g, std::byte* tile, const GroupOperands& o,
                                std::integer_sequence<int, kStep...>) {
  const auto step = [&]<int i>() __attribute__((always_inline)) {
    unpacker.step(g, i, tile);
    if constexpr (Program::kLength > 0) {
      multiply_piece<Program, kHalf * kQuads + i, 2 * kQuads>(o);
    }
  };
  (step.template operator()<kStep>(), ...);
}

/// Unpacks a group of both panels while another group is multiplied.
template <class Program, class Unpacker>
HYBRID_INLINE void unpack_group(std::array<Unpacker, 2>& unpackers, const BlockOfPair& b, int g,
                                std::byte* ring, const GroupOperands& o) {
  constexpr auto kSteps = std::make_integer_sequence<int, kQuads>{};
  std::byte* tile = ring_tile(ring, b, g);
  prefetch_piece(b.sources[0].ahead, b.block_bytes, g);
  unpack_panel<Program, 0>(unpackers[0], g, tile, o, kSteps);
  prefetch_piece(b.sources[1].ahead, b.block_bytes, g);
  unpack_panel<Program, 1>(unpackers[1], g, tile + kPanelDistance, o, kSteps);
}

template <DType type>
HYBRID_INLINE std::array<TileUnpacker<type>, 2> unpackers_of(const BlockOfPair& b) {
  return {TileUnpacker<type>(b.sources[0].panel, b.block, b.sources[0].exponent),
          TileUnpacker<type>(b.sources[1].panel, b.block, b.sources[1].exponent)};
}

/// Unpacks the first group of a block while another group is multiplied.
template <DType type, class Program>
HYBRID_INLINE void unpack_first_group(const BlockOfPair& b, std::byte* ring,
                                      const GroupOperands& o) {
  auto unpackers = unpackers_of<type>(b);
  unpack_group<Program>(unpackers, b, 0, ring, o);
}

/// The first one of all: nothing is multiplied yet. One for all programs.
template <DType type>
__attribute__((noinline)) void begin_ring(const BlockOfPair& b, std::byte* ring) {
  unpack_first_group<type, EmptyProgram>(b, ring, {});
}

/// Multiplies the groups of a block. Its first group is unpacked already, each of the others while
/// the one before it is multiplied, and the first one of `next`, if any, at the end. Tokens as in
/// GroupOperands, one by one so that they stay in registers.
template <DType type, class Program>
__attribute__((noinline)) void run_block(const BlockOfPair& b, const BlockOfPair* next,
                                         std::byte* ring, const std::byte* tokens,
                                         uint64_t tile_stride, int64_t rest) {
  GroupOperands o{nullptr, tokens, tile_stride, rest};
  {
    auto unpackers = unpackers_of<type>(b);
    const auto group = [&](int g) __attribute__((always_inline)) {
      o.weights = ring_tile(ring, b, g - 1);
      unpack_group<Program>(unpackers, b, g, ring, o);
      o.tokens += kTileBytes;
    };
    for_groups<TileUnpacker<type>::kPeriod, 1>(b.n_groups, group);
  }
  o.weights = ring_tile(ring, b, b.n_groups - 1);
  if (next == nullptr) return multiply_piece<Program, 0, 1>(o);
  unpack_first_group<type, Program>(*next, ring, o);
}

// ---- A range of pairs ---------------------------------------------------------------------------

template <DType type>
class PairLoop {
 public:
  PairLoop(const Bf16Product& args, uint64_t begin, uint64_t end)
      : args_(args),
        begin_(begin),
        n_pairs_(end - begin),
        first_block_(args.first_col / kBlockCols),
        n_blocks_((args.end_col() - args.first_col + kBlockCols - 1) / kBlockCols),
        n_groups_(n_tile_groups(args.end_col() - args.first_col)),
        panel_bytes_(args.first.panel_bytes()),
        block_bytes_(panel_bytes_ * kGroups / n_tile_groups(args.first.n_cols)) {}

  void run() {
    switch (args_.n_tiles) {
      case 1:
        return run_tiles<1>();
      case 2:
        return run_tiles<2>();
      default:
        return run_tiles<3>();
    }
  }

 private:
  static constexpr float kMadeUp = kCutOff / TileUnpacker<type>::kMadeUp;

  struct Place {
    uint64_t pair = 0, block = 0;
  };
  Place after(Place at) const {
    return at.block + 1 < n_blocks_ ? Place{at.pair, at.block + 1} : Place{at.pair + 1, 0};
  }

  template <int kTiles>
  void run_tiles() {
    if (args_.rest == nullptr) {
      run_program<GroupProgram<kTiles, 1>>();
    } else {
      run_program<GroupProgram<kTiles, 2>>();
    }
  }

  template <class Program>
  void run_program() {
    constexpr auto kAll = std::make_integer_sequence<int, Program::kSums>{};
    alignas(64) float sums[Program::kSums * 256];
    const uint64_t tile_stride = n_tile_groups(args_.first.n_cols) * kTileBytes;
    const int64_t rest = args_.rest == nullptr ? 0 : args_.rest - args_.tiles;
    // Two in turn: a copy would read words together that were just written one by one, and wait
    // until all stores before them are done.
    BlockOfPair blocks[2];
    BlockOfPair *block = &blocks[0], *next_block = &blocks[1];
    Place at;
    set_block(*block, at, 0);
    begin_ring<type>(*block, ring_);
    while (at.pair < n_pairs_) {
      const Place next = after(at);
      if (at.block == 0) zero_sums(kAll);
      const std::byte* tokens = args_.tiles + block->block * kGroups * kTileBytes;
      if (next.pair < n_pairs_) {
        set_block(*next_block, next, (block->ring_at + block->n_groups) % kRingGroups);
        run_block<type, Program>(*block, next_block, ring_, tokens, tile_stride, rest);
        std::swap(block, next_block);
      } else {
        run_block<type, Program>(*block, nullptr, ring_, tokens, tile_stride, rest);
      }
      if (next.block == 0) {
        store_sums(sums, kAll);
        finish(at.pair, Program::kTiles, sums);
      }
      at = next;
    }
  }

  void finish(uint64_t pair, uint64_t n_tiles, const float* sums) {
    Bf16Product::Sums result{begin_ + pair,      0, n_tiles, args_.per_tile, 0, sums, {},
                             args_.first_col > 0};
    for (uint64_t p = 0; p < 2 && has_panel(pair, p); ++p) {
      const int scale = panel_at(pair, p).exponent + TileUnpacker<type>::kExponent + kTileExponent;
      result.factor[p] = power_of_two(-scale) * kMadeUp;
      ++result.n_panels;
    }
    args_.done(result);
  }

  struct Panel {
    const std::byte* bytes;
    int exponent;
  };
  bool has_panel(uint64_t pair, uint64_t p) const {
    return !args_.second.empty() || 2 * (begin_ + pair) + p < args_.first.n_panels();
  }
  /// A panel that is not there is the one before it once more.
  Panel panel_at(uint64_t pair, uint64_t p) const {
    const bool both = !args_.second.empty();
    const PanelMatrix& m = both && p == 1 ? args_.second : args_.first;
    const uint64_t at = both ? begin_ + pair : 2 * (begin_ + pair) + (has_panel(pair, p) ? p : 0);
    return {m.data + at * panel_bytes_, m.exponents[at]};
  }

  void set_block(BlockOfPair& b, const Place& at, int ring_at) const {
    Place later = after(at);
    if (later.pair == n_pairs_) later = at;
    for (uint64_t p = 0; p < 2; ++p) {
      const Panel panel = panel_at(at.pair, p);
      const std::byte* ahead =
          panel_at(later.pair, p).bytes + (first_block_ + later.block) * block_bytes_;
      b.sources[p].panel = panel.bytes;
      b.sources[p].ahead = ahead;
      b.sources[p].exponent = panel.exponent;
    }
    b.block = first_block_ + at.block;
    b.n_groups = static_cast<int>(std::min<uint64_t>(kGroups, n_groups_ - at.block * kGroups));
    b.ring_at = ring_at;
    b.block_bytes = block_bytes_;
  }

  const Bf16Product& args_;
  uint64_t begin_, n_pairs_;
  uint64_t first_block_, n_blocks_, n_groups_;
  uint64_t panel_bytes_, block_bytes_;
  alignas(4096) std::byte ring_[2 * kPanelDistance];
};

template <DType type>
void product(const Bf16Product& args, uint64_t pair_begin, uint64_t pair_end) {
  HYBRID_CHECK(args.n_tiles <= Bf16Product::kMaxTiles);
  HYBRID_CHECK(args.per_tile >= 1 && args.per_tile <= kTileTokens);
  if (pair_begin == pair_end || args.n_tiles == 0) return;
  const TileScope tiles(args.per_tile);
  PairLoop<type>(args, pair_begin, pair_end).run();
}

/// Null for a type that is not in the list.
template <class Types>
Bf16ProductFn product_of(Types types, DType type) {
  return for_type<Bf16ProductFn>(types, type,
                                 []<DType t>() -> Bf16ProductFn { return product<t>; });
}

}  // namespace
}  // namespace hybrid::internal
