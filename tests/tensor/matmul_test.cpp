#include "tensor/matmul.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/vector_ops.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using test::random_floats;
using test::random_weights;
using test::same_bits;

namespace {

/// A weight, its inputs, and room for the output.
struct Problem {
  std::vector<std::byte> bytes;
  std::vector<float> x;
  std::vector<float> y;
  MatmulArgs args;
};

Problem make_problem(DType type, uint64_t n_cols, uint64_t n_rows, uint64_t n_tokens) {
  Problem p;
  p.bytes = random_weights(type, n_cols * n_rows, 1);
  p.x = random_floats(n_cols * n_tokens, 2);
  p.y.assign(n_rows * n_tokens, NAN);
  p.args = {
      {type, {n_cols, n_rows, 1, 1}, p.bytes}, p.x.data(), n_cols, p.y.data(), n_rows, n_tokens};
  return p;
}

std::vector<float> decoded_row(const TensorView& weight, uint64_t r) {
  std::vector<float> row(weight.n_cols());
  dequantize(weight.type, weight.row(r), row.data(), row.size());
  return row;
}

/// The distance from the exact result in units of the sum of the products' magnitudes, at its
/// largest.
double worst_error(const Problem& p) {
  const MatmulArgs& a = p.args;
  double worst = 0;
  for (uint64_t r = 0; r < a.weight.n_rows(); ++r) {
    const std::vector<float> w = decoded_row(a.weight, r);
    for (uint64_t t = 0; t < a.n_tokens; ++t) {
      double sum = 0;
      double magnitude = 0;
      for (uint64_t c = 0; c < w.size(); ++c) {
        const double product = double{w[c]} * a.x[t * a.x_stride + c];
        sum += product;
        magnitude += std::abs(product);
      }
      const double error = std::abs(a.y[t * a.y_stride + r] - sum) / (magnitude + 1e-30);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst;
}

/// The contract of VectorOps::dot, word for word and without a vector type.
float plain_dot(const float* a, const float* b, uint64_t n) {
  const bool fused = simd_level() != SimdLevel::scalar;
  const uint64_t n_lanes = simd_level() >= SimdLevel::avx512_vnni ? 16 : 8;
  float totals[16] = {};
  const auto add = [&](uint64_t begin, uint64_t end) {
    float sums[16] = {};
    for (uint64_t i = begin; i < end; ++i) {
      float& sum = sums[i % n_lanes];
      sum = fused ? std::fma(a[i], b[i], sum) : sum + a[i] * b[i];
    }
    for (uint64_t lane = 0; lane < n_lanes; ++lane) totals[lane] += sums[lane];
  };
  const uint64_t n_whole = n / n_lanes * n_lanes;
  for (uint64_t i = 0; i < n_whole; i += 256) add(i, std::min(i + 256, n_whole));
  if (n_whole < n) add(n_whole, n);
  for (uint64_t half = n_lanes / 2; half > 0; half /= 2) {
    for (uint64_t lane = 0; lane < half; ++lane) totals[lane] += totals[lane + half];
  }
  return totals[0];
}

}  // namespace

TEST_CASE("every type and shape agrees with sums in double") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    for (const uint64_t n_blocks : {1, 3}) {
      for (const uint64_t n_rows : {1, 3, 64}) {
        for (const uint64_t n_tokens : {1, 2, 3, 5, 17}) {
          CAPTURE(n_blocks);
          CAPTURE(n_rows);
          CAPTURE(n_tokens);
          Problem p = make_problem(info.type, n_blocks * info.block_size, n_rows, n_tokens);
          matmul_rows(p.args, 0, n_rows);
          CHECK(worst_error(p) < 2e-7);
        }
      }
    }
  }
}

TEST_CASE("rows of any length, also where it is no multiple of a vector") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const uint64_t n_cols : {7, 8, 9, 255, 256, 257, 264, 511, 519}) {
    CAPTURE(n_cols);
    Problem p = make_problem(DType::f16, n_cols, 5, 3);
    matmul_rows(p.args, 0, 5);
    CHECK(worst_error(p) < 2e-7);
  }
}

TEST_CASE("long rows lose no precision") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Problem p = make_problem(DType::q4_k, 18432, 16, 4);
  matmul_rows(p.args, 0, 16);
  double error = 0;
  double norm = 0;
  for (uint64_t r = 0; r < 16; ++r) {
    const std::vector<float> w = decoded_row(p.args.weight, r);
    for (uint64_t t = 0; t < 4; ++t) {
      double sum = 0;
      for (size_t c = 0; c < w.size(); ++c) sum += double{w[c]} * p.x[t * w.size() + c];
      error += std::pow(p.y[t * 16 + r] - sum, 2);
      norm += sum * sum;
    }
  }
  CHECK(std::sqrt(error / norm) < 4e-7);
}

TEST_CASE("no tokens and no rows: nothing is read or written") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Problem p = make_problem(DType::q8_0, 64, 4, 0);
  p.args.x = nullptr;
  p.args.y = nullptr;
  matmul_rows(p.args, 0, 4);
  Problem q = make_problem(DType::q8_0, 64, 4, 2);
  matmul_rows(q.args, 2, 2);
  for (const float value : q.y) CHECK(std::isnan(value));
}

TEST_CASE("a result has the same bits whatever the number of tokens") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const uint64_t n_cols = info.block_size == 1 ? 303 : 3 * info.block_size;
    Problem all = make_problem(info.type, n_cols, 13, 17);
    matmul_rows(all.args, 0, 13);
    for (const uint64_t n_tokens : {1, 2, 3, 16}) {
      std::vector<float> y(all.y.size(), NAN);
      for (uint64_t t = 0; t < 17; t += n_tokens) {
        MatmulArgs part = all.args;
        part.x += t * part.x_stride;
        part.y = y.data() + t * part.y_stride;
        part.n_tokens = std::min(n_tokens, 17 - t);
        matmul_rows(part, 0, 13);
      }
      CHECK(same_bits(y, all.y));
    }
  }
}

TEST_CASE("more tokens than one block holds") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Problem p = make_problem(DType::q8_0, 18432, 9, 37);  // blocks of 16
  matmul_rows(p.args, 0, 9);
  std::vector<float> dots(p.y.size());
  for (uint64_t r = 0; r < 9; ++r) {
    const std::vector<float> w = decoded_row(p.args.weight, r);
    for (uint64_t t = 0; t < 37; ++t) {
      dots[t * 9 + r] = vector_ops().dot(w.data(), p.x.data() + t * w.size(), w.size());
    }
  }
  CHECK(same_bits(p.y, dots));
}

TEST_CASE("a result has the same bits whatever the split into rows, and is VectorOps::dot") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const uint64_t n_tokens : {1, 4, 5}) {
    Problem p = make_problem(DType::q6_k, 768, 41, n_tokens);
    std::vector<float> dots(p.y.size());
    for (uint64_t r = 0; r < 41; ++r) {
      const std::vector<float> w = decoded_row(p.args.weight, r);
      for (uint64_t t = 0; t < n_tokens; ++t) {
        dots[t * 41 + r] = vector_ops().dot(w.data(), p.x.data() + t * 768, 768);
      }
    }
    for (const uint64_t step : {1, 2, 3, 7, 8, 9, 41}) {
      std::fill(p.y.begin(), p.y.end(), NAN);
      for (uint64_t r = 0; r < 41; r += step)
        matmul_rows(p.args, r, std::min<uint64_t>(r + step, 41));
      CHECK(same_bits(p.y, dots));
    }
  }
}

TEST_CASE("threads may share out the rows") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Problem p = make_problem(DType::iq4_xs, 512, 64, 3);
  matmul_rows(p.args, 0, 64);
  const std::vector<float> expected = p.y;
  std::fill(p.y.begin(), p.y.end(), NAN);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] { matmul_rows(p.args, 16 * i, 16 * (i + 1)); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(same_bits(p.y, expected));
}

TEST_CASE("only the asked rows are written, and gaps between tokens are kept") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Problem p = make_problem(DType::q4_0, 64, 6, 3);
  matmul_rows(p.args, 0, 6);
  std::vector<float> x(3 * 70, NAN);  // what lies between the rows of x must not matter
  for (uint64_t t = 0; t < 3; ++t) std::copy_n(p.x.data() + t * 64, 64, x.data() + t * 70);
  std::vector<float> y(3 * 9, -1.0f);
  const MatmulArgs spaced{p.args.weight, x.data(), 70, y.data(), 9, 3};
  matmul_rows(spaced, 2, 5);
  for (uint64_t t = 0; t < 3; ++t) {
    for (uint64_t r = 0; r < 9; ++r) {
      const bool asked = r >= 2 && r < 5;
      CHECK(y[t * 9 + r] == (asked ? p.y[t * 6 + r] : -1.0f));
    }
  }
}

TEST_CASE("weights may lie at any address") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DType type : {DType::f32, DType::bf16, DType::q8_0, DType::iq3_s}) {
    Problem p = make_problem(type, 256, 9, 2);
    matmul_rows(p.args, 0, 9);
    std::vector<std::byte> moved(p.bytes.size() + 1);
    std::copy(p.bytes.begin(), p.bytes.end(), moved.begin() + 1);
    std::vector<float> y(p.y.size());
    MatmulArgs args = p.args;
    args.weight.data = std::span<const std::byte>(moved).subspan(1);
    args.y = y.data();
    matmul_rows(args, 0, 9);
    CHECK(same_bits(y, p.y));
  }
}

TEST_CASE("shapes that do not agree are refused") {
  const Problem p = make_problem(DType::q8_0, 64, 4, 2);
  const auto refused = [&](auto&& change) {
    MatmulArgs args = p.args;
    change(args);
    CHECK_THROWS_AS(matmul_rows(args, 0, 4), Error);
  };
  CHECK_THROWS_AS(matmul_rows(p.args, 0, 5), Error);
  CHECK_THROWS_AS(matmul_rows(p.args, 3, 2), Error);
  refused([](MatmulArgs& a) { a.weight.ne = {64, 2, 2, 1}; });
  refused([](MatmulArgs& a) { a.weight.ne[0] = 63; });
  refused([](MatmulArgs& a) { a.weight.ne[0] = 0; });
  refused([](MatmulArgs& a) { a.weight.data = a.weight.data.first(a.weight.data.size() - 1); });
  refused([](MatmulArgs& a) { a.x = nullptr; });
  refused([](MatmulArgs& a) { a.y = nullptr; });
  refused([](MatmulArgs& a) { a.x_stride = 63; });
  refused([](MatmulArgs& a) { a.y_stride = 3; });
}

TEST_CASE("VectorOps::dot takes its sum in the promised order") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> a = random_floats(600, 3);
  const std::vector<float> b = random_floats(600, 4);
  CHECK(vector_ops().dot(a.data(), b.data(), 0) == 0.0f);
  for (uint64_t n = 0; n <= 600; ++n) {
    REQUIRE(vector_ops().dot(a.data(), b.data(), n) == plain_dot(a.data(), b.data(), n));
    REQUIRE(vector_ops().dot(a.data() + 600 - n, b.data() + 600 - n, n) ==
            plain_dot(a.data() + 600 - n, b.data() + 600 - n, n));
  }
}

TEST_CASE("VectorOps::axpy adds a multiple, rounding the product first") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = random_floats(37, 5);
  const std::vector<float> before = random_floats(37, 6);
  for (const uint64_t n : {0, 1, 5, 36}) {
    std::vector<float> y = before;
    vector_ops().axpy(-0.7f, x.data(), y.data(), n);
    for (uint64_t i = 0; i < 37; ++i) {
      const volatile float product = -0.7f * x[i];  // not to be fused here either
      CHECK(y[i] == (i < n ? before[i] + product : before[i]));
    }
  }
}
