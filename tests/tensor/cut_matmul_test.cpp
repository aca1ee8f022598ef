// A matrix that is cut over memory nodes gives the bits of one that is not.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "numa/worker_plan.h"
#include "tensor/parallel_matmul.h"
#include "tests/support/accuracy.h"
#include "tests/support/cut_weight.h"
#include "tests/support/simd_levels.h"
#include "tests/support/weight_stack.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

std::vector<float> product(const Weight& w, const std::vector<float>& x, Workers& workers,
                           Precision precision) {
  const uint64_t n_tokens = x.size() / w.n_cols();
  std::vector<float> y(n_tokens * w.n_rows(), NAN);
  MatmulInput input;
  input.set(x.data(), n_tokens, w.n_cols(), precision);
  matmul(w, input, y.data(), workers);
  return y;
}

void check_same(DType type, uint64_t n_rows, const NodePlan& plan) {
  CAPTURE(name_of(type));
  CAPTURE(n_rows);
  CAPTURE(plan.slices.size());
  constexpr uint64_t kCols = 256;
  const WeightStack stack(type, kCols, n_rows, 1, balanced_weights(type, kCols * n_rows, 1));
  const CutWeight cut(stack.packed(), plan);
  Workers one(1);
  for (const int n_threads : {1, 2, 3}) {
    Workers workers(plan_workers(plan, n_threads));
    for (const uint64_t n_tokens : {1, 3, 40}) {
      const std::vector<float> x = activations(Spread::gaussian, n_tokens, kCols, 2);
      for (const Precision precision : {Precision::normal, Precision::exact}) {
        CHECK(same_bits(product(cut.weight(), x, workers, precision),
                        product(stack.packed(), x, one, precision)));
      }
    }
  }
}

}  // namespace

TEST_CASE("cut over any number of slices, on any threads, a product has the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DType type : {DType::q4_k, DType::q8_0, DType::f16, DType::iq4_nl}) {
    for (const size_t n_slices : {2, 3, 8}) {
      for (const uint64_t n_rows : {16, 48, 333, 512}) {  // fewer rows than slices, odd panels
        check_same(type, n_rows, sliced_plan(n_slices));
      }
    }
    check_same(type, 500, sliced_plan(std::vector<uint32_t>{20, 7}));
  }
}

TEST_CASE("workers without a plan do all slices, and rows beyond a run are refused") {
  const NodePlan plan = sliced_plan(2);
  const WeightStack stack(DType::q8_0, 256, 128, 1, balanced_weights(DType::q8_0, 256 * 128, 1));
  const CutWeight cut(stack.packed(), plan);
  const std::vector<float> x = activations(Spread::gaussian, 1, 256, 2);
  Workers one(1), three(3);
  CHECK(same_bits(product(cut.weight(), x, three, Precision::normal),
                  product(stack.packed(), x, one, Precision::normal)));
  CHECK(panels_of(cut.weight(), 0, 4).n_rows == 64);
  CHECK_THROWS_AS(panels_of(cut.weight(), 0, 5), Error);
  CHECK_THROWS_AS(cut.weight().part(32, 32), Error);
}
