// Absorbed attention against the textbook form in double.

#include "attention/mla_attention.h"

#include <doctest/doctest.h>

#include "tests/attention/attention_case.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

double error_of(const AttentionCase& c, const AttentionInputs& in, const MlaUpProjection& up,
                Workers& workers) {
  std::vector<float> out;
  std::vector<float> latent(uint64_t{c.n_tokens} * c.shape.n_heads * c.shape.cache_row());
  MlaAttentionArgs args = attention_args(c, in, out);
  args.latent = latent.data();
  mla_attention_absorbed(args, up, filled_cache(c, in), workers);
  return relative_error(out, reference_attention(c, in));
}

}  // namespace

TEST_CASE("absorbed attention is attention") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const MlaShape real{.n_heads = 2, .qk_nope = 128, .qk_rope = 64, .v_dim = 128, .kv_lora = 512};
  const MlaShape odd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};
  const AttentionCase cases[] = {
      {real, 5, 3},
      {real, 0, 1},
      {odd, 0, 17},
      {odd, 40, 1},
      {real, 70, 9},
      {real, 3, 2, DType::q4_k},
      {odd, 9, 4, DType::q8_0},
  };
  for (const AttentionCase& c : cases) {
    const AttentionInputs in(c);
    CAPTURE(c.n_before);
    CAPTURE(c.n_tokens);
    CHECK(error_of(c, in, in.merged, workers) < 2e-6);
    CHECK(error_of(c, in, in.split, workers) < 2e-6);
  }
}

TEST_CASE("an f16 cache costs about a half's rounding") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  const MlaShape odd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};
  const AttentionCase c{odd, 20, 5, DType::f32, DType::f16};
  const AttentionInputs in(c);
  const double error = error_of(c, in, in.merged, workers);
  CHECK(error < 2e-3);
  CHECK(error > 1e-5);
}

TEST_CASE("the cache gives back what was stored") {
  KvCache cache({3, 5, 10, DType::f32});
  const std::vector<float> row = random_floats(10, 9);
  cache.store(2, 4, row.data());
  std::vector<float> scratch(10);
  const float* loaded = load_cache_rows(cache, 2, 4, 1, scratch.data());
  CHECK(std::memcmp(loaded, row.data(), 40) == 0);
  CHECK(cache.n_bytes() == 3 * 5 * 40);
  CHECK_THROWS(cache.store(2, 5, row.data()));
  CHECK_THROWS(cache.store(3, 0, row.data()));
}
