// Intrinsics: of the plain loops gcc 12 makes loads of what was just stored in pieces, which took
// half of the time.

#include "tensor/quantize_group-inl.h"

#include <immintrin.h>

namespace hybrid {
namespace internal {
namespace {

/// What rounding to q left, in 256ths of the scale.
inline __m512i rounded_rest(__m512 x, __m512i q, __m512 scale, __m512 inverse) {
  const __m512 left = _mm512_sub_ps(x, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(q)));
  const __m512 units = _mm512_mul_ps(_mm512_mul_ps(left, inverse), _mm512_set1_ps(256));
  const __m512i most = _mm512_set1_epi32(127), least = _mm512_set1_epi32(-127);
  return _mm512_max_epi32(_mm512_min_epi32(_mm512_cvtps_epi32(units), most), least);
}

/// q = a, b as bytes; sums of both.
inline void store_bytes(__m512i a, __m512i b, int8_t* q, int32_t (&sums)[2]) {
  const __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(b), _mm512_cvtepi32_epi8(a));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
  __m256i four = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
  four = _mm256_hadd_epi32(four, four);
  four = _mm256_hadd_epi32(four, four);
  sums[0] = _mm256_extract_epi32(four, 0);
  sums[1] = _mm256_extract_epi32(four, 4);
}

GroupScale best_scale_avx512(__m512 a, __m512 b, GroupScale first) {
  const __m512i half = _mm512_set1_epi16(kTrialSteps / 2);
  const __m512i mask = _mm512_set1_epi16(kTrialSteps - 1);
  int32_t errors[kScaleTrials];
  for (int trial = 0; trial < kScaleTrials; ++trial) {
    const __m512 factor =
        _mm512_set1_ps(first.inverse * (kTrialLargest[trial] / 127.0f * kTrialSteps));
    const __m512i values = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(a, factor)),
                                              _mm512_cvtps_epi32(_mm512_mul_ps(b, factor)));
    const __m512i left =
        _mm512_sub_epi16(_mm512_and_si512(_mm512_add_epi16(values, half), mask), half);
    errors[trial] = _mm512_reduce_add_epi32(_mm512_madd_epi16(left, left));
  }
  return best_trial(first, errors);
}

void group_to_bytes_avx512(const float* x, ActivationBlock& block, ActivationBlock* rest,
                           uint32_t group) {
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i bits = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                        _mm512_and_si512(_mm512_castps_si512(b), magnitude));
  GroupScale of(_mm512_reduce_max_epu32(bits));
  if (of.scale == 0) return group_to_bytes(x, block, rest, group);
  if (rest == nullptr) of = best_scale_avx512(a, b, of);
  const __m512 scale = _mm512_set1_ps(of.scale), inverse = _mm512_set1_ps(of.inverse);
  const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
  const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
  int32_t sums[2];
  store_bytes(qa, qb, block.q + 32 * group, sums);
  store_scale(block, group, of.scale, sums);
  if (rest == nullptr) return;
  int32_t rest_sums[2];
  store_bytes(rounded_rest(a, qa, scale, inverse), rounded_rest(b, qb, scale, inverse),
              rest->q + 32 * group, rest_sums);
  for (int i = 0; i < 2; ++i) sums[i] = 256 * sums[i] + rest_sums[i];
  store_scale(*rest, group, of.scale * 0x1p-8f, sums);
}

void block_to_words_avx512(const float* x, ActivationBlock& first, ActivationBlock& second) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i bits = _mm512_setzero_si512();
  for (int i = 0; i < 256; i += 16) {
    const __m512i some = _mm512_castps_si512(_mm512_loadu_ps(x + i));
    bits = _mm512_max_epu32(bits, _mm512_and_si512(some, magnitude));
  }
  const WordScale of(_mm512_reduce_max_epu32(bits));
  of.store(first, second);
  const __m512 inverse = _mm512_set1_ps(of.inverse);
  const auto words_of = [&](const float* from) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(from), inverse);
    return _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(scaled));
  };
  for (int i = 0; i < 256; i += 32) {
    __m512i words = _mm512_setzero_si512();  // 0 * infinity is none
    if (of.scale > 0) {
      words = _mm512_inserti64x4(_mm512_castsi256_si512(words_of(x + i)), words_of(x + i + 16), 1);
    }
    const __m512i ordered =
        _mm512_shufflehi_epi16(_mm512_shufflelo_epi16(words, _MM_PERM_DBCA), _MM_PERM_DBCA);
    _mm512_storeu_si512((i < 128 ? first : second).q + i % 128 * 2, ordered);
  }
}

}  // namespace
}  // namespace internal

template <>
QuantizeGroup quantize_group_at<SimdLevel::avx512_vnni>() {
  return {internal::group_to_bytes_avx512, internal::block_to_words_avx512};
}

}  // namespace hybrid
