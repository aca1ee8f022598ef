// A feed-forward net over every token (dense layers, the shared expert), and what a call asks for.

#include "experts/ffn_jobs.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "base/error.h"
#include "tests/experts/expert_case.h"
#include "tests/support/expect_error.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// One net with all tokens, their rows as they are.
std::vector<float> dense(const ExpertWeights& w, const MoeCase& c, Workers& workers) {
  std::vector<float> out(c.x.size(), NAN);
  MatmulInput input;
  input.set(c.x.data(), c.n_tokens(), c.experts.n_embd());
  const FfnJob job{w.gate_of(0), w.up_of(0), w.down_of(0), 0, static_cast<uint32_t>(c.n_tokens())};
  FfnScratch scratch;
  run_ffn_jobs({input, {&job, 1}, {}, out.data()}, scratch, workers);
  return out;
}

/// A case in which every token goes to the one net, and with weight 1.
MoeCase single_net(const TestExperts& experts, uint64_t n_tokens) {
  MoeCase c(experts, 1, std::vector<int32_t>(n_tokens, 0), Spread::gaussian);
  c.weights.assign(n_tokens, 1.0f);
  return c;
}

}  // namespace

TEST_CASE("a dense net is a routed one that every token takes, bit for bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), three(3);
  const FfnTypes types[] = {{DType::f32, DType::f32, DType::f32},
                            {DType::f16, DType::f16, DType::bf16},
                            {DType::q8_0, DType::q8_0, DType::q8_0},
                            {DType::q4_k, DType::q4_k, DType::q4_1},
                            {DType::q5_k, DType::f16, DType::iq4_nl}};
  for (const FfnTypes& t : types) {
    CAPTURE(static_cast<int>(t.gate));
    for (const uint64_t n_ff : {64, 160}) {
      const TestExperts experts(t, 256, n_ff, 1);
      for (const uint64_t n_tokens : {1, 2, 16, 49}) {
        CAPTURE(n_tokens);
        const MoeCase c = single_net(experts, n_tokens);
        const std::vector<float> routed = c.run(experts.packed(), one);
        for (const ExpertWeights& w : experts.layouts()) {
          CHECK(dense(w, c, one) == routed);
          CHECK(dense(w, c, three) == routed);
        }
      }
    }
  }
}

TEST_CASE("a product that is no number is told apart from the tokens beside it") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const TestExperts experts({DType::q4_k, DType::q4_k, DType::q8_0}, 256, 96, 1);
  for (const uint64_t n_tokens : {1, 20}) {
    MoeCase c = single_net(experts, n_tokens);
    const std::vector<float> good = dense(experts.packed(), c, workers);
    c.x[100] = NAN;
    const std::vector<float> bad = dense(experts.packed(), c, workers);
    for (uint64_t i = 0; i < 256; ++i) CHECK(std::isnan(bad[i]));
    CHECK(std::memcmp(bad.data() + 256, good.data() + 256, (n_tokens - 1) * 256 * sizeof(float)) ==
          0);
  }
}

TEST_CASE("gate F32 and up quantised: one token goes, several at amx are refused by name") {
  LevelScope scope;
  Workers workers(1);
  const TestExperts experts({DType::f32, DType::q8_0, DType::q8_0}, 64, 32, 2);
  for (const SimdLevel level : simd_levels()) {
    scope.set(level);
    for (const uint64_t n_tokens : {1, 3}) {
      const MoeCase c(experts, 1, std::vector<int32_t>(n_tokens, 1), Spread::gaussian);
      const std::string error = error_of([&] { c.run(experts.packed(), workers); });
      const bool refused = level == SimdLevel::amx && n_tokens > 1;
      CHECK((error == "gate and up of types F32 and Q8_0 together are not supported") == refused);
      CHECK(error.empty() == !refused);
    }
  }
}

TEST_CASE("no jobs, or no tokens: nothing is written") {
  Workers workers(1);
  MatmulInput input;
  FfnScratch scratch;
  run_ffn_jobs({input, {}, {}, nullptr}, scratch, workers);
  const TestExperts experts({DType::q8_0, DType::q8_0, DType::q8_0}, 64, 32, 1);
  CHECK(dense(experts.packed(), single_net(experts, 0), workers).empty());
}
