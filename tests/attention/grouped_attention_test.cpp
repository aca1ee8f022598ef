// Grouped-query attention against the textbook form in double.

#include "attention/grouped_attention.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "tests/attention/grouped_case.h"
#include "tests/support/accuracy.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

// Heads, heads of keys, and dimensions: like Qwen's and Llama's, one head of keys for all, as many
// as queries, and dimensions that fill neither vectors, panels nor tiles.
constexpr AttentionDims kGroups{12, 4, 64, 32};
constexpr AttentionDims kOneKeyHead{8, 1, 48, 80};
constexpr AttentionDims kOwnKeys{6, 6, 32, 32};
constexpr AttentionDims kOdd{5, 5, 19, 13};
constexpr AttentionDims kOddGroups{6, 2, 33, 47};
constexpr AttentionDims kSmall{3, 1, 1, 3};
constexpr AttentionDims kAllDims[] = {kGroups, kOneKeyHead, kOwnKeys, kOdd, kOddGroups, kSmall};

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::q8_0};

/// Floats are sums of two bf16 numbers at amx.
double tolerance() { return simd_level() == SimdLevel::amx ? 3e-5 : 2e-6; }

double error_of(const std::vector<float>& found, const std::vector<double>& expected) {
  RelativeRms rms;
  for (size_t i = 0; i < expected.size(); ++i) rms.add(found[i], expected[i]);
  return rms.value();
}

void check(const GroupedCase& c, uint64_t max_scratch_bytes = 0, uint32_t n_ctx = 0) {
  Workers workers(2);
  const GroupedInputs in(c, n_ctx);
  const std::vector<double> expected = reference_attention(c, in);
  INFO(c.dims.n_heads, '/', c.dims.n_kv_heads, " heads, ", c.dims.key_dim, " x ", c.dims.value_dim,
       ", ", c.n_tokens, " queries behind ", c.n_before, ", keys ", name_of(c.key_type),
       ", values ", name_of(c.value_type), ", limit ", max_scratch_bytes);
  for (const bool flash : {false, true}) {
    CAPTURE(flash);
    CHECK(error_of(attend(c, in, flash, max_scratch_bytes, workers), expected) < tolerance());
  }
}

}  // namespace

TEST_CASE("every number of queries of every shape, at the start and later") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const AttentionDims& dims : kAllDims) {
    for (uint32_t n_tokens = 1; n_tokens <= 70; n_tokens += n_tokens < 18 ? 1 : 13) {
      for (const uint32_t n_before : {0u, 27u}) check({dims, n_before, n_tokens});
    }
  }
}

TEST_CASE("contexts that cross groups of 256 keys and blocks of 1024") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const AttentionDims& dims : {kGroups, kOneKeyHead, kOdd}) {
    for (const uint32_t n_kv : {255u, 256u, 257u, 511u, 513u, 770u, 1024u, 1025u, 1300u}) {
      for (const uint32_t n_tokens : {1u, 3u, 33u}) check({dims, n_kv - n_tokens, n_tokens});
    }
  }
}

TEST_CASE("rows are taken from the cache as they are kept, whatever their types") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const AttentionDims& dims : kAllDims) {
    for (const DType keys : kTypes) {
      for (const DType values : kTypes) {
        for (const uint32_t n_tokens : {1u, 15u, 40u}) {
          GroupedCase c{dims, 61, n_tokens, 0.2f, keys, values};
          check(c);
          c.n_rotary = dims.key_dim / 3;
          check(c);
        }
      }
    }
  }
}

TEST_CASE("scores far apart: one key takes all") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  for (const AttentionDims& dims : {kGroups, kOneKeyHead, kOdd}) {
    for (const uint32_t n_tokens : {1u, 7u, 40u}) {
      const GroupedCase c{dims, 600, n_tokens, 30};
      const GroupedInputs in(c);
      const std::vector<double> expected = reference_attention(c, in);
      for (const bool flash : {false, true}) {
        // Scores of some hundreds lose a few digits before the exponential.
        CHECK(error_of(attend(c, in, flash, 0, workers), expected) <
              (simd_level() == SimdLevel::amx ? 2e-2 : 1e-4));
      }
    }
  }
}

TEST_CASE("a limit of scratch makes steps of whole and of parts of groups, and no difference") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const uint64_t row = score_row_bytes(100);
  for (const AttentionDims& dims : {kGroups, kOddGroups, kOdd}) {
    const uint32_t n_tokens = 37;
    const GroupedCase c{dims, 100 - n_tokens, n_tokens};
    // Heads of a step: a half of all; 5, which is no multiple of a group; 1; fewer queries.
    for (const uint64_t n :
         {row * n_tokens * dims.n_heads / 2, row * n_tokens * 5, row * n_tokens, row * 7, row}) {
      check(c, n);
    }
  }
  // Not a bit, either, where blocks of keys still have room.
  Workers workers(1);
  const GroupedCase c{kGroups, 50, 50};
  const GroupedInputs in(c);
  const std::vector<float> whole = attend(c, in, false, 0, workers);
  for (const uint64_t n : {row * 50 * 7, row * 50 * 5, row * 50 * 3}) {
    CHECK(attend(c, in, false, n, workers) == whole);
  }
  CHECK_THROWS_WITH_AS(attend(c, in, false, row - 1, workers),
                       doctest::Contains("has no room for the scores of one query"), Error);
}

TEST_CASE("a context longer than what it holds, and of a length that is no multiple of anything") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const AttentionDims& dims : {kGroups, kOdd}) {
    for (const uint32_t n_ctx : {301u, 1031u, 4099u}) {
      for (const uint32_t n_tokens : {1u, 20u}) check({dims, 270, n_tokens}, 0, n_ctx);
    }
  }
  for (const AttentionDims& dims : kAllDims) check({dims, 0, 1});  // a context of one
}

TEST_CASE("threads do not change a bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), two(2), seven(7);
  for (const AttentionDims& dims : kAllDims) {
    for (const DType type : {DType::f32, DType::q8_0}) {
      for (const uint32_t n_tokens : {1u, 5u, 13u, 50u}) {
        const GroupedCase c{dims, 530, n_tokens, 0.2f, type, type};
        const GroupedInputs in(c);
        for (const bool flash : {false, true}) {
          const std::vector<float> alone = attend(c, in, flash, 0, one);
          for (Workers* workers : {&two, &seven}) {
            REQUIRE(attend(c, in, flash, 0, *workers) == alone);
          }
        }
      }
    }
  }
}

TEST_CASE("with flash the scratch does not know the context; without, it is that of the scores") {
  const GroupedAttention::Sizes small{kGroups, 4096, 512, 0}, large{kGroups, 1 << 20, 512, 0};
  CHECK(GroupedAttention::n_bytes(large, {}) < uint64_t{64} << 20);
  const AttentionOptions scored{.flash = false, .max_scratch_bytes = 0};
  CHECK(GroupedAttention::n_bytes(large, scored) - GroupedAttention::n_bytes(small, scored) ==
        (score_row_bytes(1 << 20) - score_row_bytes(4096)) * 512 * kGroups.n_heads);
}
