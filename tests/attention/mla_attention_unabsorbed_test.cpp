// Attention on materialised keys and values against the textbook form in double, and against the
// absorbed form.

#include "attention/mla_attention_unabsorbed.h"

#include <doctest/doctest.h>

#include "tests/attention/attention_case.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const MlaShape kReal{.n_heads = 2, .qk_nope = 128, .qk_rope = 64, .v_dim = 128, .kv_lora = 512};
const MlaShape kOdd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};

/// Floats are sums of two bf16 numbers at amx.
double tolerance() { return simd_level() == SimdLevel::amx ? 3e-5 : 2e-6; }

std::vector<float> unabsorbed(const AttentionCase& c, const AttentionInputs& in,
                              const MlaUpProjection& up, Workers& workers) {
  std::vector<float> out;
  const MlaAttentionArgs args = attention_args(c, in, out);
  MlaUnabsorbedScratch scratch(c.shape, c.n_tokens);
  mla_attention_unabsorbed(args, up, filled_cache(c, in), scratch, workers);
  return out;
}

std::vector<float> absorbed(const AttentionCase& c, const AttentionInputs& in, Workers& workers) {
  std::vector<float> out;
  std::vector<float> latent(uint64_t{c.n_tokens} * c.shape.n_heads * c.shape.cache_row());
  MlaAttentionArgs args = attention_args(c, in, out);
  args.latent = latent.data();
  mla_attention_absorbed(args, in.merged, filled_cache(c, in), workers);
  return out;
}

/// Queries [begin, end) of a case, in a micro-batch of their own.
std::vector<float> part(const AttentionCase& c, const AttentionInputs& in, const KvCache& cache,
                        uint32_t begin, uint32_t end) {
  const uint64_t n_heads = c.shape.n_heads;
  std::vector<float> out((end - begin) * n_heads * c.shape.v_dim, NAN);
  MlaAttentionArgs args;
  args.shape = c.shape;
  args.kq_scale = c.kq_scale();
  args.layer = 1;
  args.first_position = c.n_before + begin;
  args.n_tokens = end - begin;
  args.q = in.q.data() + begin * n_heads * c.shape.qk_dim();
  args.out = out.data();
  MlaUnabsorbedScratch scratch(c.shape, args.n_tokens);
  Workers workers(1);
  mla_attention_unabsorbed(args, in.merged, cache, scratch, workers);
  return out;
}

}  // namespace

TEST_CASE("un-absorbed attention is attention") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  // Positions cross the blocks of 1024, the groups of 256 keys and the panels of 16.
  const AttentionCase cases[] = {
      {kReal, 5, 3},
      {kReal, 0, 70, DType::f32, DType::f32, 0.05f},  // so that scores are of order 1
      {kOdd, 40, 1},
      {kOdd, 240, 33},
      {kOdd, 1000, 70},
      {kOdd, 1024, 16},
      {kOdd, 2040, 20},
      {kReal, 3, 18, DType::q4_k, DType::f32, 0.005f},
      {kOdd, 9, 21, DType::q8_0},
  };
  for (const AttentionCase& c : cases) {
    const AttentionInputs in(c);
    CAPTURE(c.n_before);
    CAPTURE(c.n_tokens);
    const std::vector<double> expected = reference_attention(c, in);
    CHECK(relative_error(unabsorbed(c, in, in.merged, workers), expected) < tolerance());
    CHECK(relative_error(unabsorbed(c, in, in.split, workers), expected) < tolerance());
  }
}

TEST_CASE("every number of queries, at the start and later") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  for (uint32_t n_tokens = 1; n_tokens <= 70; ++n_tokens) {
    for (const uint32_t n_before : {0, 27}) {
      const AttentionCase c{kOdd, n_before, n_tokens};
      const AttentionInputs in(c);
      CAPTURE(n_before);
      CAPTURE(n_tokens);
      const auto found = unabsorbed(c, in, in.merged, workers);
      CHECK(relative_error(found, reference_attention(c, in)) < tolerance());
    }
  }
}

TEST_CASE("scores far apart: one key takes all, and the maximum grows on the way") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  AttentionCase c{kOdd, 600, 20};
  c.scale_factor = 20;
  const AttentionInputs in(c);
  // Scores of some hundreds lose a few digits before the exponential.
  CHECK(relative_error(unabsorbed(c, in, in.merged, workers), reference_attention(c, in)) < 1e-4);
}

TEST_CASE("both forms read the same f16 cache") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const AttentionCase c{kOdd, 300, 40, DType::f32, DType::f16};
  const AttentionInputs in(c);
  const std::vector<float> found = unabsorbed(c, in, in.merged, workers);
  CHECK(relative_error(found, absorbed(c, in, workers)) < tolerance());
  const double error = relative_error(found, reference_attention(c, in));
  CHECK(error < 2e-3);
  CHECK(error > 1e-5);
}

TEST_CASE("neither threads nor micro-batches change a bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const AttentionCase c{kOdd, 970, 150};
  const AttentionInputs in(c);
  Workers one(1);
  const std::vector<float> whole = unabsorbed(c, in, in.merged, one);
  for (const int n_threads : {2, 5}) {
    Workers workers(n_threads);
    CHECK(unabsorbed(c, in, in.merged, workers) == whole);
  }
  const KvCache cache = filled_cache(c, in);
  for (const uint32_t n : {1, 16, 61, 100}) {
    std::vector<float> joined;
    for (uint32_t begin = 0; begin < c.n_tokens; begin += n) {
      const auto piece = part(c, in, cache, begin, std::min(begin + n, c.n_tokens));
      joined.insert(joined.end(), piece.begin(), piece.end());
    }
    CHECK(joined == whole);
  }
}

TEST_CASE("the scratch is bounded: it does not know the context") {
  const MlaShape v3{.n_heads = 128};
  CHECK(MlaUnabsorbedScratch::n_bytes(v3, 512) < 140u << 20);
}
