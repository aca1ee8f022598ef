// Latent attention in every mode against the textbook form in double.

#include "attention/mla_attention.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "tests/attention/attention_case.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const MlaShape kReal{.n_heads = 2, .qk_nope = 128, .qk_rope = 64, .v_dim = 128, .kv_lora = 512};
const MlaShape kOdd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};
const MlaShape kManyHeads{.n_heads = 20, .qk_nope = 32, .qk_rope = 32, .v_dim = 32, .kv_lora = 64};
const MlaShape kThirteenHeads{
    .n_heads = 13, .qk_nope = 16, .qk_rope = 32, .v_dim = 16, .kv_lora = 32};

constexpr MlaMode kModes[] = {MlaMode::standard, MlaMode::absorbed_transposed, MlaMode::absorbed,
                              MlaMode::unabsorbed_prefill};

/// Floats are sums of two bf16 numbers at amx.
double tolerance() { return simd_level() == SimdLevel::amx ? 3e-5 : 2e-6; }

/// Where the matrix unit attends latents for one token, values are single bf16 numbers.
double tolerance(const AttentionCase& c, const AttentionOptions& options, double max_error) {
  const MlaPlan plan(c.shape, options, c.n_before + c.n_tokens, c.n_tokens);
  const bool is_split = options.flash && options.mla != MlaMode::standard && c.n_tokens == 1 &&
                        !plan.is_unabsorbed(c.n_before, c.n_tokens);
  return is_split && simd_level() == SimdLevel::amx ? std::max(max_error, 2.5e-3) : max_error;
}

void check_all_modes(const AttentionCase& c, double max_error, uint64_t max_scratch_bytes = 0) {
  Workers workers(2);
  const AttentionInputs in(c);
  const std::vector<double> expected = reference_attention(c, in);
  CAPTURE(c.n_before);
  CAPTURE(c.n_tokens);
  for (const MlaMode mla : kModes) {
    for (const bool flash : {false, true}) {
      CAPTURE(static_cast<int>(mla));
      CAPTURE(flash);
      const AttentionOptions options = options_of(c, mla, flash, max_scratch_bytes);
      const double most = tolerance(c, options, max_error);
      CHECK(relative_error(attend(c, in, in.merged, options, workers), expected) < most);
      CHECK(relative_error(attend(c, in, in.split, options, workers), expected) < most);
    }
  }
}

}  // namespace

TEST_CASE("every mode is attention") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  // Positions cross blocks of 1024, chunks and groups of 256 keys and panels of 16; scores are of
  // order 1 where a scale is given.
  const AttentionCase cases[] = {
      {kReal, 5, 3},
      {kReal, 0, 1},
      {kReal, 70, 9, DType::f32, DType::f32, 0.05f},
      {kReal, 0, 70, DType::f32, DType::f32, 0.05f},
      {kReal, 3, 18, DType::q4_k, DType::f32, 0.005f},
      {kOdd, 0, 17},
      {kOdd, 40, 1},
      {kOdd, 240, 33},
      {kOdd, 700, 3},
      {kOdd, 1000, 70},
      {kOdd, 2040, 20},
      {kOdd, 9, 4, DType::q8_0},
      {kManyHeads, 700, 1},
      {kManyHeads, 530, 5},
      {kManyHeads, 30, 40},
  };
  for (const AttentionCase& c : cases) check_all_modes(c, tolerance());
}

TEST_CASE("every number of queries, at the start and later") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (uint32_t n_tokens = 1; n_tokens <= 70; n_tokens += n_tokens < 20 ? 1 : 7) {
    for (const uint32_t n_before : {0, 27})
      check_all_modes({kOdd, n_before, n_tokens}, tolerance());
  }
}

TEST_CASE("scores far apart: one key takes all, and the maximum grows on the way") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const MlaShape& shape : {kOdd, kManyHeads}) {
    for (const uint32_t n_tokens : {1u, 20u}) {
      AttentionCase c{shape, 600, n_tokens};
      c.scale_factor = 20;
      // Scores of some hundreds lose a few digits before the exponential.
      check_all_modes(c, simd_level() == SimdLevel::amx ? 5e-3 : 1e-4);
    }
  }
}

TEST_CASE("a limit of scratch makes steps, of heads and then of queries, and no difference") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const AttentionCase c{kManyHeads, 50, 46};
  const uint64_t row = score_row_bytes(96);
  CHECK(score_steps(20, 46, 96, 0).n_steps(20, 46) == 1);
  CHECK(score_steps(20, 46, 96, row * 46 * 10).n_steps(20, 46) == 2);
  CHECK(score_steps(20, 46, 96, row * 46 * 10 - 1).n_steps(20, 46) == 3);
  CHECK(score_steps(20, 46, 96, row * 46 - 1).n_steps(20, 46) == 20 * 2);
  CHECK(score_steps(20, 46, 96, row * 7).n_steps(20, 46) == 20 * 7);
  CHECK(score_steps(20, 46, 96, row - 1).n_tokens == 0);
  for (const uint64_t n : {row * 460, row * 460 - 1, row * 138, row * 45, row * 7, row}) {
    check_all_modes(c, tolerance(), n);
  }
}

TEST_CASE("no buffer of scores or of keys that are made is larger than the limit") {
  const MlaShape v3{.n_heads = 128};
  for (const uint64_t mib : {1, 17, 512, 2048}) {
    const uint64_t limit = mib << 20;
    for (const bool flash : {false, true}) {
      const AttentionOptions options{.flash = flash, .max_scratch_bytes = limit};
      const MlaPlan plan(v3, options, 163840, 512);
      CHECK(scores_bytes(plan.sizes(), options) <= limit);
      CHECK(scores_bytes(plan.sizes(), options) + (flash ? limit : 0) > limit / 2);
      CHECK(plan.unabsorbed_block().n_heads * plan.unabsorbed_block().head_bytes() <= limit);
    }
  }
  const AttentionOptions small{.flash = false, .max_scratch_bytes = 1000};
  CHECK_THROWS_WITH_AS(MlaAttention(MlaPlan(v3, small, 4096, 512)),
                       doctest::Contains("has no room for the scores of one query"), Error);
}

TEST_CASE("un-absorbed where that costs less: by queries and context") {
  const MlaShape v3{.n_heads = 128};
  const MlaPlan plan(v3, {}, 163840, 512);
  CHECK_FALSE(plan.is_unabsorbed(0, 1));
  CHECK(plan.is_unabsorbed(0, 512));
  CHECK(plan.is_unabsorbed(163328, 512));
  CHECK(plan.is_unabsorbed(0, 16));
  CHECK_FALSE(plan.is_unabsorbed(100000, 16));
  CHECK_FALSE(plan.is_unabsorbed(100000, 170));
  CHECK(plan.is_unabsorbed(100000, 172));
  CHECK(plan.min_unabsorbed_tokens(100000) == 171);
  CHECK(plan.sizes().max_cached_tokens >= 170);
  CHECK_FALSE(MlaPlan(v3, {.mla = MlaMode::absorbed}, 4096, 512).is_unabsorbed(0, 512));
  // Without room for keys that are made, all is absorbed.
  const MlaPlan tight(v3, {.max_scratch_bytes = 20000}, 4096, 512);
  CHECK_FALSE(tight.is_unabsorbed(0, 512));
  CHECK(tight.sizes().max_cached_tokens == 512);
}

TEST_CASE("threads do not change a bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), two(2), five(5), many(9);
  for (const MlaMode mla : kModes) {
    for (const bool flash : {false, true}) {
      // 20 and 13 queries are cut into tasks of 3 by some numbers of threads: the last has fewer.
      for (const AttentionCase& c :
           {AttentionCase{kOdd, 970, 150}, AttentionCase{kManyHeads, 700, 3},
            AttentionCase{kManyHeads, 700, 1}, AttentionCase{kThirteenHeads, 40, 1},
            AttentionCase{kThirteenHeads, 40, 5}}) {
        const AttentionInputs in(c);
        const AttentionOptions options = options_of(c, mla, flash);
        const std::vector<float> whole = attend(c, in, in.merged, options, one);
        for (Workers* workers : {&two, &five, &many}) {
          CAPTURE(c.n_tokens);
          CAPTURE(workers->n_threads());
          CHECK(attend(c, in, in.merged, options, *workers) == whole);
        }
      }
    }
  }
}

TEST_CASE("micro-batches do not change a bit but where they change the form") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  for (const MlaShape& shape : {kOdd, kManyHeads}) {
    for (const MlaMode mla : {MlaMode::standard, MlaMode::absorbed_transposed, MlaMode::absorbed}) {
      // The last tokens of a call, in calls of their own: with flash few are attended otherwise.
      const auto last_of = [&](uint32_t n_tokens, uint32_t n, bool flash) {
        const AttentionCase whole{shape, 100 - n_tokens, n_tokens}, part{shape, 100 - n, n};
        AttentionInputs in(whole), last(part);
        const size_t n_q = last.q.size(), n_out = uint64_t{n} * shape.n_heads * shape.v_dim;
        last.q.assign(in.q.end() - static_cast<std::ptrdiff_t>(n_q), in.q.end());
        std::vector<float> all =
            attend(whole, in, in.merged, options_of(whole, mla, flash), workers);
        all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(n_out));
        CAPTURE(static_cast<int>(mla));
        CAPTURE(flash);
        CAPTURE(n);
        CHECK(attend(part, last, last.merged, options_of(part, mla, flash), workers) == all);
      };
      for (const uint32_t n : {1u, 3u, 16u, 40u}) last_of(60, n, false);
      for (const uint32_t n : {16u, 17u, 40u}) last_of(60, n, true);
      for (const uint32_t n : {2u, 3u, 14u}) last_of(15, n, true);
      // At amx a single token over latents is a form of its own.
      if (simd_level() != SimdLevel::amx) last_of(15, 1, true);
    }
  }
}

TEST_CASE("a rounded cache costs its rounding") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  struct Type {
    DType type;
    double min, max;
  };
  Workers workers(1);
  for (const Type& t : {Type{DType::f16, 1e-5, 2e-3}, Type{DType::q8_0, 1e-3, 4e-2}}) {
    for (const MlaShape& shape : {kOdd, kManyHeads}) {
      const AttentionCase c{shape, 300, 5, DType::f32, t.type, 0.1f};
      const AttentionInputs in(c);
      const std::vector<double> expected = reference_attention(c, in);
      for (const MlaMode mla : kModes) {
        for (const bool flash : {false, true}) {
          const double error = relative_error(
              attend(c, in, in.merged, options_of(c, mla, flash), workers), expected);
          CAPTURE(static_cast<int>(mla));
          CAPTURE(name_of(t.type));
          CHECK(error < t.max);
          CHECK(error > t.min);
        }
      }
    }
  }
}

TEST_CASE("the scratch of -fa 1 is bounded: it does not know the context") {
  const MlaShape v3{.n_heads = 128};
  const uint64_t n = MlaPlan(v3, {}, 163840, 512).n_bytes();
  CHECK(n < uint64_t{300} << 20);
  CHECK(n - MlaPlan(v3, {}, 4096, 512).n_bytes() < uint64_t{16} << 20);
}
