#pragma once
// The body of many_tokens (panel_int8.h) for activations as words, at the wide levels.
//
// Weights, too, become words: 256 columns of a row with one scale, what a type's small scales and
// minima do to them included. So a sum over 256 columns is one integer, and floats come in once for
// it. Both sides' words are so small that no sum leaves 32 bits:
//
//   256 columns * kMaxWeightWord * kMaxActivationWord < 2^31

#include "tensor/panel_product-inl.h"

namespace hybrid::internal {
namespace {

/// What weights are rounded to; one less than what they can be, as scale and minimum are rounded
/// apart from each other.
constexpr int kMaxWeightWord = 2046, kWeightSteps = kMaxWeightWord - 1;
static_assert(int64_t{kBlockCols} * kMaxWeightWord * kMaxActivationWord <= INT32_MAX);

/// weight = scale * q. Two vectors for four columns: 0 and 2, 1 and 3 of them.
struct alignas(64) WordBlock {
  static constexpr int kVectors = kBlockCols / 2;
  int16_t q[kVectors][kVectorBytes / 2];
  float scale[kPanelRows];
};

template <SimdLevel L>
struct WordDot;

#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
struct WordDot<SimdLevel::avx2> {
  static constexpr int kPanels = 1, kTokens = 4;
  using Int = Lanes<SimdLevel::avx2>::Int;

  /// sum += 2 products of words in each lane.
  HYBRID_INLINE static void add(Int& sum, Int q, Int x) {
    sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(q.a, x.a));
    sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(q.b, x.b));
  }
};
#endif

#if defined(__AVX512VNNI__)
template <>
struct WordDot<SimdLevel::avx512_vnni> {
  static constexpr int kPanels = 2, kTokens = 6;
  using Int = Lanes<SimdLevel::avx512_vnni>::Int;

  /// Not the intrinsic, see ByteDot.
  HYBRID_INLINE static void add(Int& sum, Int q, Int x) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(q), "v"(x));
  }
};
#endif

/// How a type's q become the words that are multiplied with its scales: (q - kOffset) * 256, and
/// 2^kShift more where q is small, so that the multiplier uses its 15 bits.
template <class Reader>
struct WordForm {
  static constexpr bool kHasMinimum = !requires { Reader::kOffset; };
  static constexpr int offset() {
    if constexpr (requires { Reader::kOffset; }) return Reader::kOffset;
    return 0;
  }
  /// The largest magnitude that scale * (q - offset) can have beside that of weights.
  static constexpr int kLargest =
      kHasMinimum ? (Reader::kMaxQ + 1) / 2 : std::max(offset(), Reader::kMaxQ - offset());
  static constexpr int kShift = kLargest >= 8 ? 0 : kLargest >= 4 ? 1 : 2;
  static constexpr int kUnit = 256 << kShift;  // of q
  /// A multiplier has 15 bits: weights of this times the scale have a multiplier that fits.
  static constexpr float kLeast =
      32768.0f * kWeightSteps / (32767.0f * kUnit) * 32768.0f / 32767.0f;
};

/// Each lane's number in both its words.
template <SimdLevel L>
HYBRID_INLINE typename Lanes<L>::Int both_words(typename Lanes<L>::Int x) {
  using V = Lanes<L>;
  return V::bit_or(V::bit_and(x, V::set(0xffff)), V::shift_left(x, 16));
}

/// What weights with scale (and minimum) s of a block are at most: the bits of floats that are not
/// negative, which order them, NaN above all.
template <SimdLevel L, class Reader>
HYBRID_INLINE typename Lanes<L>::Int largest_weight(const Reader& reader, int s) {
  using V = Lanes<L>;
  using Form = WordForm<Reader>;
  const auto magnitude = [](typename V::Float x) {
    return V::bit_and(V::as_int(x), V::set(0x7fffffff));
  };
  const auto scale = reader.scale(s);
  const float most =
      std::max(Form::kHasMinimum ? 0.0f : static_cast<float>(Form::kLargest), Form::kLeast);
  const auto largest = magnitude(V::multiply(scale, V::set_float(most)));
  if constexpr (Form::kHasMinimum) {
    const auto minimum = reader.minimum(s);
    const auto top = V::multiply_subtract(scale, V::set_float(Reader::kMaxQ), minimum);
    return V::larger(largest, V::larger(magnitude(top), magnitude(minimum)));
  } else {
    return largest;
  }
}

template <SimdLevel L, DType type>
__attribute__((noinline)) void unpack_words(const std::byte* panel, uint64_t block, int n_groups,
                                            WordBlock& out) {
  using V = Lanes<L>;
  using Reader = PanelReader<L, type>;
  using Form = WordForm<Reader>;
  constexpr int kScales = kGroupCols / Reader::kScaleCols;
  const Reader reader(panel, block);
  auto largest = V::set(0);
  for_groups<Reader::kPeriod, 0>(
      n_groups, [&](int g) __attribute__((always_inline)) {
#pragma GCC unroll 2
        for (int s = kScales * g; s < kScales * g + kScales; ++s) {
          largest = V::larger(largest, largest_weight<L>(reader, s));
        }
      });
  const auto most = V::as_float(largest);
  V::store_float(out.scale, V::multiply(most, V::set_float(1.0f / kWeightSteps)));
  const auto per_unit = V::divide(V::set_float(kWeightSteps), most);
  const auto multiplier = V::multiply(per_unit, V::set_float(32768.0f / Form::kUnit));
  for_groups<Reader::kPeriod, 0>(
      n_groups, [&](int g) __attribute__((always_inline)) {
#pragma GCC unroll 2
        for (int i = 0; i < kScales; ++i) {
          const int s = kScales * g + i;
          const auto factor = both_words<L>(V::to_int(V::multiply(reader.scale(s), multiplier)));
          [[maybe_unused]] auto minimum = V::set(0);
          if constexpr (Form::kHasMinimum) {
            minimum = both_words<L>(V::to_int(V::multiply(reader.minimum(s), per_unit)));
          }
#pragma GCC unroll 8
          for (int j = i * kQuads / kScales; j < (i + 1) * kQuads / kScales; ++j) {
            const auto quad = reader.quad(g, j);
#pragma GCC unroll 2
            for (int k = 0; k < 2; ++k) {
              // Bytes 0 and 2, then 1 and 3, each in the upper half of a word.
              const int up = (k == 0 ? 8 : 0) + Form::kShift;
              auto words = V::bit_and(up ? V::shift_left(quad, up) : quad, V::set(0xff00ff00));
              if constexpr (Form::offset() != 0) {
                words = V::sub_words(words, V::set(Form::offset() * Form::kUnit * 0x00010001u));
              }
              words = V::multiply_words_high(words, factor);
              if constexpr (Form::kHasMinimum) words = V::sub_words(words, minimum);
              V::store(out.q[2 * (g * kQuads + j) + k], words);
            }
          }
        }
      });
}

/// sums[p][t] += kPanels panels' blocks times that of kTokens tokens. x: the two halves of each.
template <SimdLevel L, int kPanels, int kTokens>
__attribute__((noinline)) void add_word_tile(const WordBlock* w,
                                             const ActivationBlock* const (&x)[2][kTokens],
                                             int n_groups, float* sums, uint64_t panel_stride) {
  using V = Lanes<L>;
  constexpr int kHalf = kGroups / 2, kGroupVectors = kGroupCols / 2;
  typename V::Int dots[kPanels][kTokens];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) dots[p][t] = V::set(0);
  }
#pragma GCC unroll 1
  for (int half = 0; half * kHalf < n_groups; ++half) {
    const int8_t* words[kTokens];
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) words[t] = x[half][t]->q;
    const int n = std::min(kHalf, n_groups - half * kHalf) * kGroupVectors;
    const int first = half * kHalf * kGroupVectors;
#pragma GCC unroll 1
    for (int i = 0; i < n; i += 8) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        typename V::Int weights[kPanels];
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p) {
          weights[p] = V::load(w[p].q[first + i + j]);
        }
#pragma GCC unroll 6
        for (int t = 0; t < kTokens; ++t) {
          uint32_t two;
          std::memcpy(&two, words[t] + 4 * (i + j), 4);
          const auto v = V::set(two);
#pragma GCC unroll 2
          for (int p = 0; p < kPanels; ++p) WordDot<L>::add(dots[p][t], weights[p], v);
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
    const auto scale = V::load_float(w[p].scale);
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      float* sum = sums + p * panel_stride + t * kPanelRows;
      const auto both = V::multiply(scale, V::set_float(x[0][t]->scale[0]));
      V::store_float(sum, V::multiply_add(V::to_float(dots[p][t]), both, V::load_float(sum)));
    }
  }
}

/// All tokens from `token` on in tiles of kTokens, those left over in a smaller one.
template <SimdLevel L, int kPanels, int kTokens = WordDot<L>::kTokens>
void add_word_tiles(const Int8Product& args, const WordBlock* w, uint64_t block, int n_groups,
                    const NextBlock& next, float* sums, uint64_t token = 0) {
  const ActivationBlock* x[2][kTokens];
  uint64_t t = token;
  for (; t + kTokens <= args.n_tokens; t += kTokens) {
    next.prefetch(kPanels, t, t + kTokens, args.n_tokens);
    for (uint64_t i = 0; i < kTokens; ++i) {
      x[0][i] = args.rows[2 * (t + i)] + block;
      x[1][i] = args.rows[2 * (t + i) + 1] + block;
    }
    add_word_tile<L, kPanels, kTokens>(w, x, n_groups, sums + t * kPanelRows,
                                       kWordTokens * kPanelRows);
  }
  if constexpr (kTokens > 1) {
    if (t < args.n_tokens) {
      add_word_tiles<L, kPanels, kTokens - 1>(args, w, block, n_groups, next, sums, t);
    }
  }
}

template <SimdLevel L, DType type, int kPanels>
void many_tokens_as_words(const Int8Product& args, uint64_t panel) {
  using V = Lanes<L>;
  const PanelMatrix& w = args.weight;
  const uint64_t panel_size = w.panel_bytes();
  const uint64_t n_blocks = n_activation_blocks(w.n_cols);
  const uint64_t block_bytes = panel_size / n_blocks;
  alignas(64) float sums[kPanels * kWordTokens * kPanelRows];
  for (int p = 0; p < kPanels; ++p) {
    std::fill_n(sums + p * kWordTokens * kPanelRows, args.n_tokens * kPanelRows, 0.0f);
  }
  WordBlock unpacked[kPanels];
  for (uint64_t b = 0; b < n_blocks; ++b) {
    const auto n_groups = static_cast<int>(n_groups_of(w.n_cols, b));
    NextBlock next{{}, block_bytes};
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* bytes = w.data + (panel + p) * panel_size;
      next.panels[p] = bytes + (b + 1) * block_bytes;
      unpack_words<L, type>(bytes, b, n_groups, unpacked[p]);
    }
    add_word_tiles<L, kPanels>(args, unpacked, b, n_groups, next, sums);
  }
  for (int p = 0; p < kPanels; ++p) {
    for (uint64_t t = 0; t < args.n_tokens; ++t) {
      store_rows<L>(args, panel + p, t, V::load_float(sums + (p * kWordTokens + t) * kPanelRows));
    }
  }
}

}  // namespace
}  // namespace hybrid::internal
