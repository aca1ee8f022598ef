// The fused routed experts against the formula in double.

#include "experts/moe_ffn.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "experts/routes.h"
#include "tensor/dequantize.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct Experts {
  std::vector<std::byte> gate, up, down, gate_up;
  ExpertWeights separate, merged;

  Experts(DType type, DType down_type, uint64_t n_embd, uint64_t ff, uint64_t n) {
    gate = random_weights(type, n_embd * ff * n, 1);
    up = random_weights(type, n_embd * ff * n, 2);
    down = random_weights(down_type, n_embd * ff * n, 3);
    const uint64_t matrix = ff * row_bytes(type, n_embd);
    for (uint64_t e = 0; e < n; ++e) {
      gate_up.insert(gate_up.end(), gate.begin() + static_cast<std::ptrdiff_t>(e * matrix),
                     gate.begin() + static_cast<std::ptrdiff_t>((e + 1) * matrix));
      gate_up.insert(gate_up.end(), up.begin() + static_cast<std::ptrdiff_t>(e * matrix),
                     up.begin() + static_cast<std::ptrdiff_t>((e + 1) * matrix));
    }
    separate.gate = {type, {n_embd, ff, n, 1}, gate};
    separate.up = {type, {n_embd, ff, n, 1}, up};
    separate.down = {down_type, {ff, n_embd, n, 1}, down};
    merged.gate_up = {type, {n_embd, 2 * ff, n, 1}, gate_up};
    merged.down = separate.down;
  }
};

std::vector<double> product(const TensorView& matrix, const std::vector<double>& x) {
  std::vector<float> row(matrix.n_cols());
  std::vector<double> y(matrix.n_rows(), 0.0);
  for (uint64_t r = 0; r < matrix.n_rows(); ++r) {
    dequantize(matrix.type, matrix.row(r), row.data(), row.size());
    for (size_t c = 0; c < row.size(); ++c) y[r] += row[c] * x[c];
  }
  return y;
}

void check_against_formula(DType type, DType down_type, uint32_t n_tokens,
                           const std::vector<int32_t>& ids, uint32_t n_used) {
  const uint64_t n_embd = 256, ff = 256, n_experts = 6;
  const Experts experts(type, down_type, n_embd, ff, n_experts);
  MoeShape shape{.n_experts = static_cast<uint32_t>(n_experts), .n_used = n_used};
  shape.ff_dim = static_cast<uint32_t>(ff);
  std::vector<float> x = random_floats(n_tokens * n_embd, 4);
  for (float& v : x) v *= 0.01f;
  std::vector<float> weights = random_floats(uint64_t{n_tokens} * n_used, 5);
  std::vector<float> y = random_floats(n_tokens * n_embd, 6);
  const std::vector<float> before = y;
  std::vector<float> y_merged = y, y_single = y;
  MoeFfnScratch scratch;
  Workers two(2), one(1);
  const auto run = [&](const ExpertWeights& w, float* out, Workers& workers) {
    moe_ffn({x.data(), out, n_tokens, static_cast<uint32_t>(n_embd), ids, weights}, shape, w,
            scratch, workers);
  };
  run(experts.separate, y.data(), two);
  run(experts.merged, y_merged.data(), two);
  run(experts.separate, y_single.data(), one);
  CHECK(y == y_merged);
  CHECK(y == y_single);

  double difference = 0, norm = 0;
  for (uint32_t t = 0; t < n_tokens; ++t) {
    const std::vector<double> xt(x.begin() + t * n_embd, x.begin() + (t + 1) * n_embd);
    std::vector<double> sum(n_embd, 0.0);
    for (uint32_t k = 0; k < n_used; ++k) {
      const int32_t e = ids[t * n_used + k];
      auto hidden = product(experts.separate.gate.slice(e), xt);
      const auto u = product(experts.separate.up.slice(e), xt);
      for (size_t i = 0; i < ff; ++i) hidden[i] = hidden[i] / (1 + std::exp(-hidden[i])) * u[i];
      const auto out = product(experts.separate.down.slice(e), hidden);
      for (size_t i = 0; i < n_embd; ++i) sum[i] += weights[t * n_used + k] * out[i];
    }
    for (size_t i = 0; i < n_embd; ++i) {
      const double found = y[t * n_embd + i], expected = before[t * n_embd + i] + sum[i];
      difference += (found - expected) * (found - expected);
      norm += expected * expected;
    }
  }
  if (n_tokens > 0) CHECK(std::sqrt(difference / norm) < 2e-6);
}

std::vector<int32_t> random_ids(uint32_t n_tokens, uint32_t n_used, uint32_t n_experts) {
  std::mt19937 random(11);
  std::vector<int32_t> ids;
  for (uint32_t t = 0; t < n_tokens; ++t) {
    const auto first = static_cast<int32_t>(random() % n_experts);
    for (uint32_t k = 0; k < n_used; ++k) {
      ids.push_back(static_cast<int32_t>((first + k * 2) % n_experts));
    }
  }
  return ids;
}

}  // namespace

TEST_CASE("routed experts follow the formula, merged or separate, on any threads") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const uint32_t n_tokens : {0u, 1u, 2u, 17u}) {
    check_against_formula(DType::f32, DType::f32, n_tokens, random_ids(n_tokens, 3, 6), 3);
  }
  check_against_formula(DType::q4_k, DType::q6_k, 5, random_ids(5, 3, 6), 3);
  check_against_formula(DType::iq4_xs, DType::q5_0, 5, random_ids(5, 2, 6), 2);
}

TEST_CASE("all tokens on one expert, and experts nobody chose") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  check_against_formula(DType::q8_0, DType::q8_0, 16, std::vector<int32_t>(16, 4), 1);
}

TEST_CASE("routes are a stable sort by expert") {
  const std::vector<int32_t> ids{3, 1, 3, 0, 1, 3};
  const Routes routes = sort_by_expert(ids, 5);
  CHECK(routes.slots == std::vector<uint32_t>{3, 1, 4, 0, 2, 5});
  CHECK(routes.offsets == std::vector<uint32_t>{0, 1, 3, 3, 6, 6});
  CHECK(routes.active == std::vector<uint32_t>{0, 1, 3});
  CHECK_THROWS(sort_by_expert(std::vector<int32_t>{5}, 5));
  CHECK_THROWS(sort_by_expert(std::vector<int32_t>{-1}, 5));
}
