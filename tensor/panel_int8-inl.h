#pragma once
// Bodies of the kernels of panel_int8.h at the wide levels; compiled by
// panel_int8_<family>_<level>.cpp, with the readers of that family.

#include "tensor/panel_product-inl.h"
#include "tensor/panel_words-inl.h"

namespace hybrid::internal {
namespace {

// ---- Dot products of bytes ----------------------------------------------------------------------

/// How products of q (at most kMaxQ) and signed bytes can be summed in 16 bits at AVX2: this many
/// pairs before they are widened. 0: q - 128 is multiplied instead, as |q - 128| and a sign.
constexpr int pairs_in_16_bits(int max_q) {
  const int n = 32767 / (2 * 127 * max_q);
  return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : n;
}

/// True where the kernel multiplies q - 128, so that the type's minimum (128 * scale) falls away.
template <SimdLevel L>
constexpr bool is_centred(int max_q) {
  return L == SimdLevel::avx2 && pairs_in_16_bits(max_q) == 0;
}

/// What of a token is multiplied together in each lane.
HYBRID_INLINE uint32_t four_bytes(const int8_t* x) {
  uint32_t four;
  std::memcpy(&four, x, 4);
  return four;
}

template <SimdLevel L>
struct ByteDot;

#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
struct ByteDot<SimdLevel::avx2> {
  using V = Lanes<SimdLevel::avx2>;
  using Int = V::Int;

  HYBRID_INLINE static __m256i pairs(__m256i q, __m256i x, bool centred) {
    if (!centred) return _mm256_maddubs_epi16(q, x);
    const __m256i w = _mm256_xor_si256(q, _mm256_set1_epi8(static_cast<char>(0x80)));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }

  /// dots[part] = sum over kQuadCount quads of the products with the 4 bytes of x[part] that belong
  /// to each.
  template <int kMaxQ, int kQuadCount, int kParts, class Quad>
  HYBRID_INLINE static void sums(const int8_t* const (&x)[kParts], const Quad& quad,
                                 Int (&dots)[kParts]) {
    for (int part = 0; part < kParts; ++part) {
      dots[part] = sum<pairs_in_16_bits(kMaxQ), kQuadCount>(x[part], quad);
    }
  }

  template <int kPairs, int kQuadCount, class Quad>
  HYBRID_INLINE static Int sum(const int8_t* x, const Quad& quad) {
    constexpr int kRun = std::min(kQuadCount, std::max(1, kPairs));
    constexpr bool kCentred = kPairs == 0;
    const __m256i ones = _mm256_set1_epi16(1);
    Int total = V::set(0);
#pragma GCC unroll 8
    for (int i = 0; i < kQuadCount; i += kRun) {
      __m256i a = _mm256_setzero_si256(), b = a;
#pragma GCC unroll 8
      for (int j = 0; j < kRun; ++j) {
        const Int q = quad(i + j);
        const __m256i v = _mm256_set1_epi32(static_cast<int>(four_bytes(x + 4 * (i + j))));
        a = _mm256_add_epi16(a, pairs(q.a, v, kCentred));
        b = _mm256_add_epi16(b, pairs(q.b, v, kCentred));
      }
      total.a = _mm256_add_epi32(total.a, _mm256_madd_epi16(a, ones));
      total.b = _mm256_add_epi32(total.b, _mm256_madd_epi16(b, ones));
    }
    return total;
  }
};
#endif

#if defined(__AVX512VNNI__)
template <>
struct ByteDot<SimdLevel::avx512_vnni> {
  using V = Lanes<SimdLevel::avx512_vnni>;
  using Int = V::Int;

  /// sum += 4 products in each lane. Not the intrinsic: gcc 12 moves its accumulator through memory
  /// when many are live, which halved the speed of the tile below.
  HYBRID_INLINE static void add(Int& sum, Int q, Int x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(q), "v"(x));
  }

  template <int kMaxQ, int kQuadCount, int kParts, class Quad>
  HYBRID_INLINE static void sums(const int8_t* const (&x)[kParts], const Quad& quad,
                                 Int (&dots)[kParts]) {
    Int odd[kParts];
    for (int part = 0; part < kParts; ++part) dots[part] = odd[part] = V::set(0);
#pragma GCC unroll 8
    for (int i = 0; i < kQuadCount; i += 2) {
      const Int even_q = quad(i), odd_q = quad(i + 1);
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        add(dots[part], even_q, V::set(four_bytes(x[part] + 4 * i)));
        add(odd[part], odd_q, V::set(four_bytes(x[part] + 4 * i + 4)));
      }
    }
    for (int part = 0; part < kParts; ++part) dots[part] = V::add(dots[part], odd[part]);
  }
};
#endif

/// The sum of the token's parts, in units of the last one's scale.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int sum_of_parts(const typename Lanes<L>::Int* dots, int n_parts) {
  using V = Lanes<L>;
  return n_parts == 1 ? dots[0] : V::add(V::shift_left(dots[0], 8), dots[1]);
}

// ---- One token ----------------------------------------------------------------------------------

/// sum += the products over group g of a block, with all parts of the token.
template <SimdLevel L, int kParts, class Reader>
HYBRID_INLINE void add_group(const Reader& reader, const ActivationBlock* const (&x)[kParts], int g,
                             typename Lanes<L>::Float& sum) {
  using V = Lanes<L>;
  constexpr int kScales = kGroupCols / Reader::kScaleCols;
  constexpr int kQuadCount = kQuads / kScales;
#pragma GCC unroll 2
  for (int s = 0; s < kScales; ++s) {
    const int8_t* bytes[kParts];
    for (int part = 0; part < kParts; ++part) {
      bytes[part] = x[part]->q + g * kGroupCols + s * Reader::kScaleCols;
    }
    typename V::Int dots[kParts];
    ByteDot<L>::template sums<Reader::kMaxQ, kQuadCount, kParts>(
        bytes, [&](int i) { return reader.quad(g, s * kQuadCount + i); }, dots);
    const ActivationBlock& last = *x[kParts - 1];
    const auto both = V::multiply(reader.scale(kScales * g + s), V::set_float(last.scale[g]));
    sum = V::multiply_add(V::to_float(sum_of_parts<L>(dots, kParts)), both, sum);
    if constexpr (!is_centred<L>(Reader::kMaxQ)) {
      const float column_sum = kScales == 1 ? last.sum32[g] : last.sum16[kScales * g + s];
      sum = V::subtract_product(sum, minimum_of<L>(reader, kScales * g + s),
                                V::set_float(column_sum));
    }
  }
}

/// Lines of group g of a block that begins at p: all of a block's at once would wait for each
/// other.
template <SimdLevel L, class Reader, int kLocality>
HYBRID_INLINE void prefetch_lines(const std::byte* p, int g) {
  constexpr int kLines = (Reader::kBlockBytes + 63) / 64;
  if constexpr (unrolled_groups<L, Reader>() == kGroups) {
#pragma GCC unroll 16
    for (int i = g * kLines / kGroups; i < (g + 1) * kLines / kGroups; ++i) {
      __builtin_prefetch(p + i * 64, 0, kLocality);
    }
  } else {  // the same number each time, some lines twice
    p += static_cast<uint64_t>(g) * kLines / kGroups * 64;
#pragma GCC unroll 16
    for (int i = 0; i < (kLines + kGroups - 1) / kGroups; ++i) {
      __builtin_prefetch(p + i * 64, 0, kLocality);
    }
  }
}

/// Fetches what a stream will read some time after group g of the block that begins `at` bytes into
/// the panel; past the panel's end that lies `jump` bytes further. Types of more than five bits,
/// which wait for memory most, fetch in two steps (docs/kernels.md).
template <SimdLevel L, class Reader>
HYBRID_INLINE void prefetch_group(const std::byte* panel, uint64_t at, int g, uint64_t panel_size,
                                  uint64_t jump) {
  constexpr int kL1 = 3, kL2 = 2;  // localities that mean these caches
  const uint64_t group_at = at + static_cast<uint64_t>(g * Reader::kBlockBytes / kGroups);
  const auto ahead = [&](uint64_t distance) {
    return panel + at + distance + (group_at + distance >= panel_size ? jump : 0);
  };
  if constexpr (Reader::kBlockBytes > 3000) {
    prefetch_lines<L, Reader, kL2>(ahead(4096), g);
    prefetch_lines<L, Reader, kL1>(ahead(1024), g);
  } else {
    prefetch_lines<L, Reader, kL1>(ahead(2048), g);
  }
}

/// Panels of a matrix that a thread goes through, and where the products of its rows go.
struct PanelStream {
  const PanelMatrix* weight;
  uint64_t panel;
  float* y;
};

/// Two streams from memory: neighbouring panels of one matrix, or the same panel of two.
constexpr int kStreams = 2;

/// The next panel of each stream, both at the same time; the one after it is `step` further.
template <SimdLevel L, DType type, int kParts>
HYBRID_INLINE void one_token_panels(const ActivationBlock* const* rows, uint64_t panel_size,
                                    uint64_t step, const PanelStream (&streams)[kStreams]) {
  using V = Lanes<L>;
  using Reader = PanelReader<L, type>;
  const uint64_t n_cols = streams[0].weight->n_cols, n_blocks = n_activation_blocks(n_cols);
  const std::byte* panels[kStreams];
  typename V::Float sums[kStreams];
#pragma GCC unroll 2
  for (int i = 0; i < kStreams; ++i) {
    panels[i] = streams[i].weight->data + streams[i].panel * panel_size;
    sums[i] = V::set_float(0);
  }
  for (uint64_t b = 0; b < n_blocks; ++b) {
    const auto n = static_cast<int>(n_groups_of(n_cols, b));
    const ActivationBlock* x[kParts];
    for (int part = 0; part < kParts; ++part) x[part] = rows[part] + b;
    const Reader readers[2] = {Reader(panels[0], b), Reader(panels[1], b)};
    if constexpr (unrolled_groups<L, Reader>() < kGroups) {
      for_groups<Reader::kPeriod, 0>(
          n, [&](int g) __attribute__((always_inline)) {
            for (int i = 0; i < kStreams; ++i) {
              prefetch_group<L, Reader>(panels[i], b * Reader::kBlockBytes, g, panel_size,
                                        (step - 1) * panel_size);
              add_group<L>(readers[i], x, g, sums[i]);
            }
          });
    } else {  // not by for_groups(): with a lambda gcc 12 makes some types 7 % slower at AVX2
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) {
        if (g >= n) break;
#pragma GCC unroll 2
        for (int i = 0; i < kStreams; ++i) {
          prefetch_group<L, Reader>(panels[i], b * Reader::kBlockBytes, g, panel_size,
                                    (step - 1) * panel_size);
          add_group<L>(readers[i], x, g, sums[i]);
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < kStreams; ++i) {
    store_panel<L>(*streams[i].weight, streams[i].panel, streams[i].y, sums[i]);
  }
}

template <SimdLevel L, DType type, int kParts>
void one_token_of(const Int8Product& args, uint64_t panel_begin, uint64_t panel_end) {
  const PanelMatrix& w = args.weight;
  const uint64_t size = w.panel_bytes();
  const bool two = !args.second.empty();
  const uint64_t step = two ? 1 : 2;
  for (uint64_t p = panel_begin; p < panel_end; p += step) {
    // A last one alone is taken twice side by side, which needs no code of its own.
    const uint64_t other = std::min(p + step, panel_end) - 1;
    one_token_panels<L, type, kParts>(
        args.rows, size, step,
        {{&w, p, args.y}, {two ? &args.second : &w, other, two ? args.y_second : args.y}});
  }
}

template <SimdLevel L, DType type>
void one_token(const Int8Product& args, uint64_t panel_begin, uint64_t panel_end) {
  if (args.n_parts == 1) {
    one_token_of<L, type, 1>(args, panel_begin, panel_end);
  } else {
    one_token_of<L, type, 2>(args, panel_begin, panel_end);
  }
}

// ---- Many tokens --------------------------------------------------------------------------------

/// A block of a panel in the common form: weight = scale * q - minimum, and no minimum where q is
/// signed.
struct alignas(64) ByteBlock {
  uint8_t q[kBlockCols / 4][kVectorBytes];  // [quad]
  float scale[16][kPanelRows];              // [8] or [16]
  float minimum[16][kPanelRows];
};

template <SimdLevel L, DType type>
__attribute__((noinline)) void unpack_bytes(const std::byte* panel, uint64_t block, int n_groups,
                                            ByteBlock& out) {
  using V = Lanes<L>;
  using Reader = PanelReader<L, type>;
  constexpr int kScales = kGroupCols / Reader::kScaleCols;
  const Reader reader(panel, block);
  for_groups<unrolled_groups<L, Reader>(), 0>(
      n_groups, [&](int g) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < kQuads; ++i) V::store(out.q[g * kQuads + i], reader.quad(g, i));
#pragma GCC unroll 2
        for (int i = 0; i < kScales; ++i) {
          const int s = kScales * g + i;
          V::store_float(out.scale[s], reader.scale(s));
          if constexpr (!is_centred<L>(Reader::kMaxQ)) {
            V::store_float(out.minimum[s], minimum_of<L>(reader, s));
          }
        }
      });
}

/// kPanels panels times up to kTokens tokens: sums that stay in registers over a block.
template <SimdLevel L>
struct Int8Tile;
template <>
struct Int8Tile<SimdLevel::avx2> {
  static constexpr int kPanels = 1, kTokens = 2;
};
template <>
struct Int8Tile<SimdLevel::avx512_vnni> {
  static constexpr int kPanels = 2, kTokens = 6;
};

/// What tiles depend on of a type; types alike share the code.
template <int kPairs_, int kScaleCols_, bool kHasMinimum_>
struct TileForm {
  static constexpr int kPairs = kPairs_;  // pairs_in_16_bits(), where that counts
  static constexpr int kScaleCols = kScaleCols_;
  static constexpr bool kHasMinimum = kHasMinimum_;
};
template <SimdLevel L, class Reader>
using TileFormOf = TileForm<L == SimdLevel::avx2 ? pairs_in_16_bits(Reader::kMaxQ) : 0,
                            Reader::kScaleCols, !is_centred<L>(Reader::kMaxQ)>;

/// dots[p][t] = first + sums over kVectors vectors of the panels and as many fours of bytes of the
/// tokens.
template <SimdLevel L, int kPairs, int kVectors, int kPanels, int kTokens>
HYBRID_INLINE void tile_dots(const ByteBlock* w, int vector, const ActivationBlock* const* x,
                             uint32_t first, typename Lanes<L>::Int (&dots)[kPanels][kTokens]) {
  using V = Lanes<L>;
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) dots[p][t] = V::set(first);
  }
  if constexpr (L == SimdLevel::avx2) {
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        const auto sum = ByteDot<L>::template sum<kPairs, kVectors>(
            x[t]->q + 4 * vector, [&](int i) { return V::load(w[p].q[vector + i]); });
        dots[p][t] = V::add(dots[p][t], sum);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      typename V::Int q[kPanels];
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) q[p] = V::load(w[p].q[vector + i]);
#pragma GCC unroll 6
      for (int t = 0; t < kTokens; ++t) {
        const auto v = V::set(four_bytes(x[t]->q + 4 * (vector + i)));
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) ByteDot<L>::add(dots[p][t], q[p], v);
      }
    }
  }
}

/// 1.5 * 2^23 as a float's bits. Added to an integer below 2^22 they make the bits of the sum of
/// both as a float: a sum of products that begins here needs no conversion.
constexpr uint32_t kFloatBits = 0x4b400000;
constexpr float kFloatOffset = 12582912.0f;

/// sums[p][t] += the products of the first n_groups groups of a block. sums of panel p begin at
/// sums + p * panel_stride.
template <SimdLevel L, class Form, int kPanels, int kTokens>
__attribute__((noinline)) void add_tile(const ByteBlock* w, const ActivationBlock* const* x,
                                        int n_groups, float* sums, uint64_t panel_stride) {
  using V = Lanes<L>;
  constexpr int kScales = kGroupCols / Form::kScaleCols;
  constexpr int kVectors = kQuads / kScales;
  typename V::Float total[kPanels][kTokens];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      total[p][t] = V::load_float(sums + p * panel_stride + t * kPanelRows);
    }
  }
#pragma GCC unroll 1
  for (int s = 0; s < kScales * n_groups; ++s) {
    typename V::Int dots[kPanels][kTokens];
    tile_dots<L, Form::kPairs, kVectors>(w, s * kVectors, x, kFloatBits, dots);
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      const auto scale = V::load_float(w[p].scale[s]);
      const auto minimum = V::load_float(w[p].minimum[s]);
      // Exact: no type's scales have more than 22 bits.
      const auto offset = V::multiply(scale, V::set_float(kFloatOffset));
#pragma GCC unroll 6
      for (int t = 0; t < kTokens; ++t) {
        const auto product = V::multiply_subtract(V::as_float(dots[p][t]), scale, offset);
        const auto token_scale = V::set_float(x[t]->scale[s / kScales]);
        total[p][t] = V::multiply_add(product, token_scale, total[p][t]);
        if constexpr (Form::kHasMinimum) {
          const float sum = kScales == 1 ? x[t]->sum32[s] : x[t]->sum16[s];
          total[p][t] = V::subtract_product(total[p][t], minimum, V::set_float(sum));
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      V::store_float(sums + p * panel_stride + t * kPanelRows, total[p][t]);
    }
  }
}

/// A block of all tokens from `token` on, in tiles of kTokens, those left over in smaller ones.
template <SimdLevel L, class Form, int kPanels, int kTokens = Int8Tile<L>::kTokens>
void add_tiles(const Int8Product& args, const ByteBlock* w, uint64_t block, int n_groups,
               const NextBlock& next, float* sums, uint64_t token = 0) {
  const ActivationBlock* x[kTokens];
  uint64_t t = token;
  for (; t + kTokens <= args.n_tokens; t += kTokens) {
    next.prefetch(kPanels, t, t + kTokens, args.n_tokens);
    for (uint64_t i = 0; i < kTokens; ++i) x[i] = args.rows[t + i] + block;
    add_tile<L, Form, kPanels, kTokens>(w, x, n_groups, sums + t * kPanelRows,
                                        kInt8Tokens * kPanelRows);
  }
  if constexpr (kTokens > 1) {
    constexpr int kNext = kTokens > 4 ? 4 : kTokens > 2 ? 2 : 1;
    add_tiles<L, Form, kPanels, kNext>(args, w, block, n_groups, next, sums, t);
  }
}

template <SimdLevel L, DType type, int kPanels>
void many_tokens_as_bytes(const Int8Product& args, uint64_t panel) {
  using V = Lanes<L>;
  const PanelMatrix& w = args.weight;
  const uint64_t panel_size = w.panel_bytes();
  const uint64_t n_blocks = n_activation_blocks(w.n_cols);
  const uint64_t block_bytes = panel_size / n_blocks;
  alignas(64) float sums[kPanels * kInt8Tokens * kPanelRows];
  for (int p = 0; p < kPanels; ++p) {
    std::fill_n(sums + p * kInt8Tokens * kPanelRows, args.n_tokens * kPanelRows, 0.0f);
  }
  ByteBlock unpacked[kPanels];
  for (uint64_t b = 0; b < n_blocks; ++b) {
    const auto n_groups = static_cast<int>(n_groups_of(w.n_cols, b));
    NextBlock next{{}, block_bytes};
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* bytes = w.data + (panel + p) * panel_size;
      next.panels[p] = bytes + (b + 1) * block_bytes;
      unpack_bytes<L, type>(bytes, b, n_groups, unpacked[p]);
    }
    add_tiles<L, TileFormOf<L, PanelReader<L, type>>, kPanels>(args, unpacked, b, n_groups, next,
                                                               sums);
  }
  for (int p = 0; p < kPanels; ++p) {
    for (uint64_t t = 0; t < args.n_tokens; ++t) {
      store_rows<L>(args, panel + p, t, V::load_float(sums + (p * kInt8Tokens + t) * kPanelRows));
    }
  }
}

template <SimdLevel L, DType type>
void many_tokens(const Int8Product& args, uint64_t panel_begin, uint64_t panel_end) {
  const bool words = args.n_parts == 2;
  const uint64_t step = words ? WordDot<L>::kPanels : Int8Tile<L>::kPanels;
  for (uint64_t p = panel_begin; p < panel_end;) {
    const bool whole = p + step <= panel_end;
    if (words) {
      whole ? many_tokens_as_words<L, type, WordDot<L>::kPanels>(args, p)
            : many_tokens_as_words<L, type, 1>(args, p);
    } else {
      whole ? many_tokens_as_bytes<L, type, Int8Tile<L>::kPanels>(args, p)
            : many_tokens_as_bytes<L, type, 1>(args, p);
    }
    p += whole ? step : 1;
  }
}

template <SimdLevel L, class Types>
Int8Kernels int8_kernels(Types types, DType type) {
  return for_type<Int8Kernels>(types, type, []<DType t>() -> Int8Kernels {
    return {one_token<L, t>, many_tokens<L, t>};
  });
}

}  // namespace
}  // namespace hybrid::internal
