#pragma once
// Body of the kernels of panel_int16.h; compiled by panel_int16_<family>_amx.cpp.
//
// A vector of a panel is 16 rows x 4 columns, and so is a row of a tile of bytes, in the same
// order. Weights become half floats as for bf16 tiles (panel_halves-inl.h), then integers, whose
// two bytes go to two tiles of 16 rows x 64 columns.
//
// The sums of three tiles of tokens with one panel take six registers, since high * high and the
// mixed products differ by a factor of 256; that leaves one each for tokens and weights: ten loads
// for nine products. While 64 columns are multiplied, the next ones are unpacked; the instructions
// alternate.

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "tensor/panel_halves-inl.h"
#include "tensor/panel_int16.h"
#include "tensor/tile_ops-inl.h"

namespace hybrid::internal {
namespace {

constexpr int kWideGroups = kGroups / 2;  // of 64 columns, in a block of 256
constexpr int kWideSteps = 2 * kQuads;
constexpr uint64_t kWideBytes = 2 * kTileBytes;  // high, low
constexpr int kRingGroups = 4;                   // unpacked ones that are kept

// ---- The rows' scales ---------------------------------------------------------------------------

/// q is 0 to this.
constexpr int largest_code(DType type) {
  switch (type) {
    case DType::q2_k:
      return 3;
    case DType::q3_k:
      return 7;
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k:
      return 31;
    case DType::q6_k:
      return 63;
    case DType::q8_0:
      return 255;
    default:
      return 15;
  }
}

HYBRID_INLINE __m512i larger_magnitude(__m512i bits, __m512 x) {
  return _mm512_max_epu32(bits, _mm512_castps_si512(_mm512_abs_ps(x)));
}

/// Bounds of the magnitudes of each row's weights; what is not finite is larger than all else.
template <DType type>
struct RowBounds {
  using Unpacker = HalfUnpacker<type>;
  using Reader = typename Unpacker::Reader;
  static __m512i of_block(const std::byte* panel, uint64_t block, int n_groups, __m512i bounds) {
    const Reader reader(panel, block);
    for (int s = 0; s < n_groups * Unpacker::kScales; ++s) {
      const __m512 scale = reader.scale(s);
      if constexpr (Unpacker::kLooksUp) {
        constexpr auto kRange = std::minmax_element(Reader::kValues.begin(), Reader::kValues.end());
        constexpr int kLargest = std::max(-*kRange.first, +*kRange.second);
        bounds = larger_magnitude(bounds, _mm512_mul_ps(scale, _mm512_set1_ps(kLargest)));
      } else {
        const __m512 minimum = minimum_of<SimdLevel::amx>(reader, s);
        const __m512 most = _mm512_fmsub_ps(scale, _mm512_set1_ps(largest_code(type)), minimum);
        bounds = larger_magnitude(larger_magnitude(bounds, minimum), most);
      }
    }
    return bounds;
  }
};

template <>
struct RowBounds<DType::f16> {
  static __m512i of_block(const std::byte* panel, uint64_t block, int n_groups, __m512i bounds) {
    const HalfUnpacker<DType::f16> unpacker(panel, block, RowFactors(0, 1.0f));
    for (int g = 0; g < n_groups; ++g) {
      for (int row = 0; row < 2 * kQuads; ++row) {
        const auto words = reinterpret_cast<__m512i>(unpacker.vector(g, row));
        for (const __m512i w : {words, _mm512_srli_epi32(words, 16)}) {
          bounds = larger_magnitude(bounds, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w)));
        }
      }
    }
    return bounds;
  }
};

/// Powers of two that bring bounds below 127 * 256: rounding up to a high byte needs room. No
/// number where the bound is none.
HYBRID_INLINE __m512 powers_below(__m512 bounds) {
  const __m512 log2 = _mm512_getexp_ps(_mm512_mul_ps(bounds, _mm512_set1_ps(32768.0f / 32512)));
  const __m512 exponent = _mm512_sub_ps(_mm512_set1_ps(14), log2);
  const __m512 limit = _mm512_set1_ps(60);
  const __m512 clamped =
      _mm512_max_ps(_mm512_min_ps(exponent, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
  const __mmask16 finite = _mm512_cmp_ps_mask(bounds, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  return _mm512_mask_scalef_ps(_mm512_set1_ps(__builtin_nanf("")), finite, _mm512_set1_ps(1),
                               clamped);
}

template <DType type>
void row_scales(const PanelMatrix& w, float* scales) {
  const auto n_groups = static_cast<int>(n_tile_groups(w.n_cols));
  for (uint64_t p = 0; p < w.n_panels(); ++p) {
    __m512i bounds = _mm512_setzero_si512();
    for (int g = 0; g < n_groups; g += kGroups) {
      bounds = RowBounds<type>::of_block(w.panel(p), static_cast<uint64_t>(g / kGroups),
                                         std::min(kGroups, n_groups - g), bounds);
    }
    _mm512_storeu_ps(scales + p * kPanelRows, powers_below(_mm512_castsi512_ps(bounds)));
  }
}

// ---- Unpacking ----------------------------------------------------------------------------------

/// Row i of a tile of high bytes and, kTileBytes after it, of one of low bytes.
HYBRID_INLINE void store_bytes(std::byte* tile, int i, const HalfPair& pair) {
  const __m512i even = _mm512_cvtph_epi16(pair.even), odd = _mm512_cvtph_epi16(pair.odd);
  const __m512i round = _mm512_set1_epi16(128), low_byte = _mm512_set1_epi16(0x00ff);
  constexpr int kSelect = 0xca;  // first ? second : third
  const __m512i high =
      _mm512_ternarylogic_epi32(low_byte, _mm512_srli_epi16(_mm512_add_epi16(even, round), 8),
                                _mm512_add_epi16(odd, round), kSelect);
  const __m512i low = _mm512_ternarylogic_epi32(low_byte, even, _mm512_slli_epi16(odd, 8), kSelect);
  _mm512_store_si512(tile + 64 * i, high);
  _mm512_store_si512(tile + kTileBytes + 64 * i, low);
}

// ---- Multiplying --------------------------------------------------------------------------------

struct WideOperands {
  const std::byte* weights;
  const std::byte* tokens;
  uint64_t tile_stride;
};

/// One tile instruction. Tokens lie in register 6, weights in 7, sums in 0 to 5.
struct Int16Step {
  enum Kind { load_tokens, load_weights, multiply } kind;
  int a = 0;  // token tile; sum
  int part = 0;
};

/// The tile instructions of 64 columns. Sums: high * high of each tile, then the mixed ones.
template <int kTiles_>
struct Int16Program {
  static constexpr int kTiles = kTiles_;
  static constexpr int kSums = 2 * kTiles;
  struct Steps {
    Int16Step at[32] = {};
    int n = 0;
    constexpr void add(Int16Step step) { at[n++] = step; }
  };
  static constexpr Steps make() {
    Steps steps;
    steps.add({Int16Step::load_weights, 0, 0});
    for (int t = 0; t < kTiles; ++t) {
      steps.add({Int16Step::load_tokens, t, 1});
      steps.add({Int16Step::multiply, kTiles + t, 0});
    }
    for (int t = kTiles; t-- > 0;) {
      steps.add({Int16Step::load_tokens, t, 0});
      steps.add({Int16Step::multiply, t, 0});
    }
    steps.add({Int16Step::load_weights, 0, 1});
    for (int t = 0; t < kTiles; ++t) {
      if (t > 0) steps.add({Int16Step::load_tokens, t, 0});
      steps.add({Int16Step::multiply, kTiles + t, 0});
    }
    return steps;
  }
  static constexpr Steps kSteps = make();
  static constexpr int kLength = kSteps.n;

  template <int kStep>
  HYBRID_INLINE static void run(const WideOperands& o) {
    constexpr Int16Step step = kSteps.at[kStep];
    if constexpr (step.kind == Int16Step::load_tokens) {
      tile_load<6>(o.tokens + step.a * o.tile_stride + step.part * kTileBytes);
    } else if constexpr (step.kind == Int16Step::load_weights) {
      tile_load<7>(o.weights + step.part * kTileBytes);
    } else {
      tile_multiply_bytes<step.a, 6, 7>();
    }
  }
  /// Those steps that fall to piece kPiece of kPieces.
  template <int kPiece, int kPieces, int... kStep>
  HYBRID_INLINE static void run_piece(const WideOperands& o, std::integer_sequence<int, kStep...>) {
    ((kStep * kPieces / kLength == kPiece ? run<kStep>(o) : void()), ...);
  }
  template <int kPiece, int kPieces>
  HYBRID_INLINE static void piece(const WideOperands& o) {
    run_piece<kPiece, kPieces>(o, std::make_integer_sequence<int, kLength>{});
  }
};

/// No tokens: nothing to multiply.
struct EmptyInt16Program {
  template <int kPiece, int kPieces>
  HYBRID_INLINE static void piece(const WideOperands&) {}
};

/// A block of 256 columns of a panel.
struct PanelBlock {
  const std::byte* panel;
  const std::byte* ahead;  // bytes to prefetch: the block after this one
  const float* row_scales;
  uint64_t block;
  int n_groups;          // of 32 columns
  int ring_at;           // place of the first 64
  uint64_t block_bytes;  // of a packed panel

  HYBRID_INLINE int n_wide() const { return (n_groups + 1) / 2; }
};

HYBRID_INLINE std::byte* ring_tiles(std::byte* ring, const PanelBlock& b, int wide) {
  return ring + static_cast<uint64_t>(b.ring_at + wide) % kRingGroups * kWideBytes;
}

/// Unpacks 64 columns while others are multiplied.
template <class Program, class Unpacker, int... kStep>
HYBRID_INLINE void unpack_wide(Unpacker& unpacker, const PanelBlock& b, int wide, std::byte* ring,
                               const WideOperands& o, std::integer_sequence<int, kStep...>) {
  std::byte* tiles = ring_tiles(ring, b, wide);
  const uint64_t n_lines = b.block_bytes / kVectorBytes, at = static_cast<uint64_t>(wide);
  for (uint64_t i = n_lines * at / kWideGroups; i < n_lines * (at + 1) / kWideGroups; ++i) {
    __builtin_prefetch(b.ahead + i * kVectorBytes);
  }
  const bool whole = 2 * wide + 1 < b.n_groups;
  const auto step = [&]<int i>() __attribute__((always_inline)) {
    if (i < kQuads || whole) {
      store_bytes(tiles, i, unpacker.step(2 * wide + i / kQuads, i % kQuads));
    }
    Program::template piece<i, kWideSteps>(o);
  };
  (step.template operator()<kStep>(), ...);
}

constexpr auto kAllSteps = std::make_integer_sequence<int, kWideSteps>{};

template <DType type>
HYBRID_INLINE HalfUnpacker<type> unpacker_of(const PanelBlock& b) {
  return HalfUnpacker<type>(b.panel, b.block, RowFactors(_mm512_loadu_ps(b.row_scales)));
}

/// Unpacks 64 columns of a block to their place in the ring; nothing is multiplied meanwhile.
template <DType type>
__attribute__((noinline)) void unpack_alone(const PanelBlock& b, int wide, std::byte* ring) {
  HalfUnpacker<type> unpacker = unpacker_of<type>(b);
  const auto unpack = [&]<int w>() __attribute__((always_inline)) {
    if (w == wide) unpack_wide<EmptyInt16Program>(unpacker, b, w, ring, {}, kAllSteps);
  };
  unpack.template operator()<0>();
  unpack.template operator()<1>();
  unpack.template operator()<2>();
  unpack.template operator()<3>();
  static_assert(kWideGroups == 4);
}

/// Multiplies a block whose first 64 columns are unpacked already; the first ones of `next`, if
/// any, are unpacked at the end.
template <DType type, class Program>
__attribute__((noinline)) void run_block(const PanelBlock& b, const PanelBlock* next,
                                         std::byte* ring, const std::byte* tokens,
                                         uint64_t tile_stride) {
  WideOperands o{nullptr, tokens, tile_stride};
  {
    HalfUnpacker<type> unpacker = unpacker_of<type>(b);
    const auto wide = [&]<int w>() __attribute__((always_inline)) {
      if (w >= b.n_wide()) return;
      o.weights = ring_tiles(ring, b, w - 1);
      unpack_wide<Program>(unpacker, b, w, ring, o, kAllSteps);
      o.tokens += kWideBytes;
    };
    wide.template operator()<1>();
    wide.template operator()<2>();
    wide.template operator()<3>();
    static_assert(kWideGroups == 4);
  }
  o.weights = ring_tiles(ring, b, b.n_wide() - 1);
  if (next == nullptr) return Program::template piece<0, 1>(o);
  HalfUnpacker<type> unpacker = unpacker_of<type>(*next);
  unpack_wide<Program>(unpacker, *next, 0, ring, o, kAllSteps);
}

// ---- All panels ---------------------------------------------------------------------------------

template <DType type>
class PanelLoop {
 public:
  /// Of columns [first_col, first_col + n_cols), a step.
  PanelLoop(const Int16Product& args, uint64_t first_col, uint64_t n_cols)
      : args_(args),
        step_(first_col / kInt16StepCols),
        first_block_(first_col / kBlockCols),
        n_blocks_((n_cols + kBlockCols - 1) / kBlockCols),
        n_groups_(n_tile_groups(n_cols)),
        panel_bytes_(args.w.panel_bytes()),
        block_bytes_(panel_bytes_ * kGroups / n_tile_groups(args.w.n_cols)) {}

  template <int kTiles>
  void run() {
    using Program = Int16Program<kTiles>;
    constexpr auto kAll = std::make_integer_sequence<int, Program::kSums>{};
    const uint64_t tile_stride = int16_tile_stride(args_.w.n_cols);
    const std::byte* first = args_.x.tiles + first_block_ * kWideGroups * kWideBytes;
    PanelBlock blocks[2];
    PanelBlock *block = &blocks[0], *next_block = &blocks[1];
    Place at;
    set_block(*block, at, 0);
    unpack_alone<type>(*block, 0, ring_);
    while (at.panel < args_.w.n_panels()) {
      const Place next = after(at);
      if (at.block == 0) zero_sums(kAll);
      const std::byte* tokens = first + at.block * kWideGroups * kWideBytes;
      const bool last = next.panel == args_.w.n_panels();
      if (!last) set_block(*next_block, next, (block->ring_at + block->n_wide()) % kRingGroups);
      run_block<type, Program>(*block, last ? nullptr : next_block, ring_, tokens, tile_stride);
      std::swap(block, next_block);
      if (next.block == 0) {
        store_sums(kAll);
        finish(at.panel, kTiles, args_.x.scales, step_ > 0);
      }
      at = next;
    }
    add_rest<kTiles>();
  }

 private:
  /// The products of what was cut off the tokens, with those columns alone that have any.
  template <int kTiles>
  void add_rest() {
    const uint64_t n_wide = (n_groups_ + 1) / 2;
    const uint64_t n_flags = n_int16_groups(args_.w.n_cols);
    const uint64_t first = first_block_ * kWideGroups;
    int which[kInt16StepCols / kInt16TileCols];
    int n = 0;
    for (uint64_t w = 0; w < n_wide; ++w) {
      uint8_t any = 0;
      for (uint64_t t = 0; t < kTiles; ++t) any |= args_.x.has_rest[t * n_flags + first + w];
      if (any != 0) which[n++] = static_cast<int>(w);
    }
    if (n == 0) return;
    constexpr auto kAll = std::make_integer_sequence<int, 2 * kTiles>{};
    for (uint64_t panel = 0; panel < args_.w.n_panels(); ++panel) {
      zero_sums(kAll);
      for (int i = 0; i < n; ++i) {
        const auto wide = static_cast<uint64_t>(which[i]);
        PanelBlock b;
        set_block(b, {panel, wide / kWideGroups}, 0);
        b.ahead = b.panel;
        unpack_alone<type>(b, static_cast<int>(wide % kWideGroups), ring_);
        multiply_rest<kTiles>(first + wide, ring_ + wide % kWideGroups * kWideBytes,
                              std::make_integer_sequence<int, kTiles>{});
      }
      store_sums(kAll);
      finish(panel, kTiles, args_.x.rest_scales, true);
    }
  }

  template <int kTiles, int... kTile>
  HYBRID_INLINE void multiply_rest(uint64_t group, const std::byte* weights,
                                   std::integer_sequence<int, kTile...>) const {
    const uint64_t stride = int16_tile_stride(args_.w.n_cols);
    const uint64_t n_flags = n_int16_groups(args_.w.n_cols);
    const std::byte* tokens = args_.x.rest + group * kWideBytes;
    const uint8_t* flags = args_.x.has_rest + group;
    tile_load<7>(weights);
    const auto with_high = [&]<int t>() __attribute__((always_inline)) {
      if (flags[t * n_flags] == 0) return;
      tile_load<6>(tokens + t * stride);
      tile_multiply_bytes<t, 6, 7>();
      tile_load<6>(tokens + t * stride + kTileBytes);
      tile_multiply_bytes<kTiles + t, 6, 7>();
    };
    (with_high.template operator()<kTile>(), ...);
    tile_load<7>(weights + kTileBytes);
    const auto with_low = [&]<int t>() __attribute__((always_inline)) {
      if (flags[t * n_flags] == 0) return;
      tile_load<6>(tokens + t * stride);
      tile_multiply_bytes<kTiles + t, 6, 7>();
    };
    (with_low.template operator()<kTile>(), ...);
  }

  struct Place {
    uint64_t panel = 0, block = 0;
  };
  Place after(Place at) const {
    return at.block + 1 < n_blocks_ ? Place{at.panel, at.block + 1} : Place{at.panel + 1, 0};
  }

  void set_block(PanelBlock& b, const Place& at, int ring_at) const {
    Place later = after(at);
    if (later.panel == args_.w.n_panels()) later = at;
    b.panel = args_.w.data + at.panel * panel_bytes_;
    b.ahead =
        args_.w.data + later.panel * panel_bytes_ + (first_block_ + later.block) * block_bytes_;
    b.row_scales = args_.row_scales + at.panel * kPanelRows;
    b.block = first_block_ + at.block;
    b.n_groups = static_cast<int>(std::min<uint64_t>(kGroups, n_groups_ - at.block * kGroups));
    b.ring_at = ring_at;
    b.block_bytes = block_bytes_;
  }

  template <int... kSum>
  HYBRID_INLINE void zero_sums(std::integer_sequence<int, kSum...>) {
    (tile_zero<kSum>(), ...);
  }
  template <int... kSum>
  HYBRID_INLINE void store_sums(std::integer_sequence<int, kSum...>) {
    (tile_store<kSum>(sums_ + 256 * kSum), ...);
  }

  void finish(uint64_t panel, uint64_t n_tiles, const float* scales, bool adds) const {
    scales += step_ * args_.x.scale_stride;
    const uint64_t row = panel * kPanelRows;
    const auto mask =
        static_cast<__mmask16>((1u << std::min(kPanelRows, args_.w.n_rows - row)) - 1);
    const __m512 row_factors =
        _mm512_div_ps(_mm512_set1_ps(1), _mm512_loadu_ps(args_.row_scales + row));
    for (uint64_t t = 0; t < args_.x.n_tokens; ++t) {
      const __m512 high = _mm512_cvtepi32_ps(_mm512_load_si512(sums_ + 16 * t));
      const __m512 mixed = _mm512_cvtepi32_ps(_mm512_load_si512(sums_ + 256 * n_tiles + 16 * t));
      const __m512 sum = _mm512_fmadd_ps(high, _mm512_set1_ps(256), mixed);
      // Both numbers' low bytes are 1/256 of their high ones.
      const __m512 factor = _mm512_mul_ps(row_factors, _mm512_set1_ps(256 * scales[t]));
      float* to = args_.y + t * args_.y_stride + row;
      const __m512 before = adds ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(sum, factor, before));
    }
  }

  const Int16Product& args_;
  uint64_t step_, first_block_, n_blocks_, n_groups_;
  uint64_t panel_bytes_, block_bytes_;
  alignas(4096) std::byte ring_[kRingGroups * kWideBytes] = {};
  alignas(64) int32_t sums_[2 * Int16Product::kMaxTiles * 256];
};

template <DType type>
void int16_product(const Int16Product& args) {
  const uint64_t n_tiles = n_token_tiles(args.x.n_tokens), n_cols = args.w.n_cols;
  HYBRID_CHECK(n_tiles <= Int16Product::kMaxTiles);
  if (n_tiles == 0) return;
  const TileScope tiles;
  for (uint64_t col = 0; col < n_cols; col += kInt16StepCols) {
    PanelLoop<type> loop(args, col, std::min(kInt16StepCols, n_cols - col));
    switch (n_tiles) {
      case 1:
        loop.template run<1>();
        break;
      case 2:
        loop.template run<2>();
        break;
      default:
        loop.template run<3>();
    }
  }
}

/// Null for a type that is not in the list.
template <class Types>
Int16Kernels int16_kernels_of(Types types, DType type) {
  return for_type<Int16Kernels>(types, type, []<DType t>() -> Int16Kernels {
    return {row_scales<t>, int16_product<t>};
  });
}

}  // namespace
}  // namespace hybrid::internal
