// Experts that are cut over memory nodes give the bits of those that are not.

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "numa/worker_plan.h"
#include "tests/experts/expert_case.h"
#include "tests/support/accuracy.h"
#include "tests/support/cut_weight.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// Every token with two of five experts.
std::vector<int32_t> choice_of(uint64_t n_tokens) {
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < static_cast<int32_t>(n_tokens); ++t) {
    ids.push_back(t * 3 % 5);
    ids.push_back((t * 3 + 1 + t % 3) % 5);
  }
  return ids;
}

}  // namespace

TEST_CASE("experts cut over any number of slices, on any threads, have the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const FfnTypes types[] = {{DType::q4_k, DType::q4_k, DType::q5_1},
                            {DType::q8_0, DType::q8_0, DType::q8_0},
                            {DType::f16, DType::f16, DType::bf16}};
  for (const FfnTypes& t : types) {
    CAPTURE(static_cast<int>(t.gate));
    for (const uint64_t n_ff : {96, 352}) {
      CAPTURE(n_ff);
      const TestExperts experts(t, 256, n_ff, 5);
      const ExpertWeights packed = experts.packed();
      const Weight merged = experts.layouts().back().gate_up;
      for (const size_t n_slices : {2, 3, 8}) {
        CAPTURE(n_slices);
        const NodePlan plan = sliced_plan(n_slices);
        const CutWeight gate(packed.gate, plan), up(packed.up, plan), down(packed.down, plan);
        const CutWeight gate_up(merged, plan, 2);
        const ExpertWeights apart{gate.weight(), up.weight(), {}, down.weight()};
        const ExpertWeights together{{}, {}, gate_up.weight(), down.weight()};
        const ExpertWeights up_alone{packed.gate, up.weight(), {}, packed.down};
        for (const uint64_t n_tokens : {1, 2, 40}) {
          CAPTURE(n_tokens);
          const MoeCase c(experts, 2, choice_of(n_tokens), Spread::gaussian);
          Workers one(1);
          const std::vector<float> y = c.run(packed, one);
          for (const int n_threads : {1, 2, 3}) {
            Workers workers(plan_workers(plan, n_threads));
            for (const ExpertWeights& w : {apart, together, up_alone}) {
              CHECK(same_bits(c.run(w, workers), y));
            }
          }
        }
      }
    }
  }
}
