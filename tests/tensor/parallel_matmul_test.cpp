// The product that layers use: near the exact one at every level, the same bits packed or not, on
// any threads.

#include "tensor/parallel_matmul.h"

#include <doctest/doctest.h>

#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "tensor/panel_matmul.h"
#include "tensor/tile_sums.h"
#include "tests/support/accuracy.h"
#include "tests/support/simd_levels.h"
#include "tests/support/weight_stack.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

std::vector<float> product(const Weight& w, const std::vector<float>& x, Workers& workers,
                           Precision precision = Precision::normal) {
  const uint64_t n_tokens = x.size() / w.n_cols();
  std::vector<float> y(n_tokens * w.n_rows(), NAN);
  MatmulInput input;
  input.set(x.data(), n_tokens, w.n_cols(), precision);
  matmul(w, input, y.data(), workers);
  return y;
}

/// What the level in force may lose, relative RMS over the outputs.
double max_error(DType type, uint64_t n_tokens, Spread spread) {
  const SimdLevel level = simd_level();
  const bool is_float = info_of(type).block_size == 1;
  if (level == SimdLevel::scalar || type == DType::f32) return 1e-6;
  if (level == SimdLevel::amx && n_tokens > 1) return 0.004;
  if (is_float) return 1e-6;
  return spread == Spread::gaussian ? 0.011 : 0.015;
}

void add_errors(const WeightStack& w, const std::vector<float>& x, const std::vector<float>& y,
                RelativeRms& rms) {
  const uint64_t n_cols = w.unpacked().n_cols(), n_rows = w.unpacked().n_rows();
  for (uint64_t t = 0; t < x.size() / n_cols; ++t) {
    for (uint64_t r = 0; r < n_rows; ++r) {
      double sum = 0;
      for (uint64_t c = 0; c < n_cols; ++c) sum += double{w.row(0, r)[c]} * x[t * n_cols + c];
      rms.add(y[t * n_rows + r], sum);
    }
  }
}

/// The distance from exact sums, relative to the size that sums of as many independent products
/// have: it says something even where the sum happens to be next to nothing.
double typical_error(const WeightStack& w, const std::vector<float>& x,
                     const std::vector<float>& y) {
  const uint64_t n_cols = w.unpacked().n_cols(), n_rows = w.unpacked().n_rows();
  double error = 0, norm = 1e-300;
  for (size_t i = 0; i < y.size(); ++i) {
    double sum = 0;
    for (uint64_t c = 0; c < n_cols; ++c) {
      const double product = double{w.row(0, i % n_rows)[c]} * x[i / n_rows * n_cols + c];
      sum += product;
      norm += product * product;
    }
    error += (y[i] - sum) * (y[i] - sum);
  }
  const double rms = std::sqrt(error / norm);
  return std::isnan(rms) ? INFINITY : rms;
}

}  // namespace

TEST_CASE("every type at every level is near sums in double over the exact weights") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  constexpr uint64_t kCols = 2048, kRows = 71;
  Workers workers(2);
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const WeightStack w(info.type, kCols, kRows, 1, balanced_weights(info.type, kCols * kRows, 1));
    for (const Spread spread : {Spread::gaussian, Spread::outliers}) {
      for (const uint64_t n_tokens : {1, 19}) {
        CAPTURE(n_tokens);
        const std::vector<float> x = activations(spread, 19, kCols, 2);
        RelativeRms rms;
        for (uint64_t t = 0; t < 19; t += n_tokens) {
          const auto first = x.begin() + static_cast<std::ptrdiff_t>(t * kCols);
          const std::vector<float> part(first,
                                        first + static_cast<std::ptrdiff_t>(n_tokens * kCols));
          add_errors(w, part, product(w.packed(), part, workers), rms);
        }
        CHECK(rms.value() <= max_error(info.type, n_tokens, spread));
        print_accuracy("matmul {:11} {:7} {:2} tokens, {}: {:.3f} %", name_of(simd_level()),
                       info.name, n_tokens, spread == Spread::gaussian ? "gaussian" : "outliers",
                       100 * rms.value());
      }
    }
  }
}

TEST_CASE("every shape: near the exact sums, the same bits packed or not and on any threads") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), two(2), three(3);
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const uint64_t unit = info.block_size == 1 ? 40 : info.block_size;
    for (const uint64_t n_cols : {unit, 3 * unit, 5 * unit}) {
      for (const uint64_t n_rows : {1, 16, 17, 53, 80}) {
        const WeightStack w(info.type, n_cols, n_rows, 1,
                            random_weights(info.type, n_cols * n_rows, 1));
        for (const uint64_t n_tokens : {1, 2, 5, 17, 49}) {
          CAPTURE(n_cols);
          CAPTURE(n_rows);
          CAPTURE(n_tokens);
          const std::vector<float> x = random_floats(n_tokens * n_cols, 2);
          const std::vector<float> y = product(w.packed(), x, one);
          CHECK(typical_error(w, x, y) <= 2 * max_error(info.type, n_tokens, Spread::gaussian));
          CHECK(same_bits(product(w.unpacked(), x, one), y));
          CHECK(same_bits(product(w.packed(), x, two), y));
          CHECK(same_bits(product(w.packed(), x, three), y));
          CHECK(same_bits(product(w.unpacked(), x, three), y));
        }
      }
    }
  }
}

TEST_CASE("exact products: hardly any error, the same bits packed or not and on any threads") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), three(3);
  for (const DType type : {DType::f16, DType::q4_0, DType::q8_0, DType::iq4_nl, DType::q4_k,
                           DType::q6_k, DType::iq4_xs}) {
    CAPTURE(name_of(type));
    for (const uint64_t n_cols : {256, 512, 2560, 7168}) {
      const WeightStack w(type, n_cols, 327, 1, random_weights(type, n_cols * 327, 1));
      for (const uint64_t n_tokens : {2, 49, 112}) {
        if (n_tokens * n_cols > 2560 * 49) continue;
        CAPTURE(n_cols);
        CAPTURE(n_tokens);
        const std::vector<float> x = random_floats(n_tokens * n_cols, 2);
        const std::vector<float> y = product(w.packed(), x, one, Precision::exact);
        CHECK(typical_error(w, x, y) <= 6e-4);
        CHECK(same_bits(product(w.packed(), x, three, Precision::exact), y));
        CHECK(same_bits(product(w.unpacked(), x, three, Precision::exact), y));
      }
    }
  }
}

TEST_CASE("ten products of many panels have the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), three(3);
  for (const DType type : {DType::f16, DType::q8_0, DType::q4_k, DType::iq2_xs}) {
    const WeightStack w(type, 256, 1003, 1, random_weights(type, 256 * 1003, 1));
    for (const uint64_t n_tokens : {1, 70}) {
      const std::vector<float> x = random_floats(n_tokens * 256, 2);
      const std::vector<float> y = product(w.packed(), x, one);
      for (int run = 0; run < 10; ++run) {
        CHECK(same_bits(product(run % 2 == 0 ? w.packed() : w.unpacked(), x, three), y));
      }
    }
  }
}

TEST_CASE("tiles: tokens in several runs, weights in several steps, the same bits as few by few") {
  LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  Workers workers(2);
  constexpr uint64_t kCols = 4096, kRows = 560;  // more rows than fit into a cache beside 60 tokens
  const WeightStack w(DType::q8_0, kCols, kRows, 1, random_weights(DType::q8_0, kCols * kRows, 1));
  const std::vector<float> x = random_floats(kCols * 60, 3);
  std::vector<float> y(60 * kRows, NAN);
  MatmulInput input;
  input.set(x.data(), 60, kCols);
  input.prepare(InputForm::tiles, workers);
  CHECK(input.tile_rows().n_tiles == 4);
  CHECK(input.tile_rows().per_tile == 15);
  multiply_tiles(w.packed(), {}, input.tile_rows(), 0, (kRows + 31) / 32,
                 [&](const Bf16Product::Sums& s) { store_sums(s, 60, kRows, y.data(), kRows); });
  for (uint64_t t = 0; t < 60; t += 20) {  // two tiles of 10
    const std::vector<float> few(x.begin() + static_cast<int64_t>(t * kCols),
                                 x.begin() + static_cast<int64_t>((t + 20) * kCols));
    const std::vector<float> part = product(w.packed(), few, workers);
    REQUIRE(std::memcmp(part.data(), y.data() + t * kRows, part.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("matrices of a stack and parts of a matrix are products of their rows") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const WeightStack stack(DType::q5_k, 512, 53, 3, random_weights(DType::q5_k, 512 * 53 * 3, 1));
  for (const uint64_t n_tokens : {1, 3}) {
    const std::vector<float> x = random_floats(n_tokens * 512, 2);
    for (const Weight& all : {stack.packed(), stack.unpacked()}) {
      for (uint64_t i = 0; i < 3; ++i) {
        const uint64_t bytes = 53 * row_bytes(DType::q5_k, 512);
        const WeightStack alone(DType::q5_k, 512, 53, 1,
                                {all.rows.row(53 * i), all.rows.row(53 * i) + bytes});
        const std::vector<float> y = product(all.slice(i), x, workers);
        CHECK(same_bits(y, product(alone.packed(), x, workers)));
        const std::vector<float> part = product(all.slice(i).part(32, 21), x, workers);
        for (uint64_t t = 0; t < n_tokens; ++t) {
          CHECK(std::memcmp(&part[t * 21], &y[t * 53 + 32], 21 * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE("an input serves several products, and is made anew for other rows") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const WeightStack a(DType::q4_0, 96, 33, 1, random_weights(DType::q4_0, 96 * 33, 1));
  const WeightStack b(DType::f16, 96, 20, 1, random_weights(DType::f16, 96 * 20, 2));
  const WeightStack wide(DType::q6_k, 256, 20, 1, random_weights(DType::q6_k, 256 * 20, 3));
  const WeightStack codebook(DType::iq2_xs, 256, 20, 1, random_weights(DType::iq2_xs, 256 * 20, 4));
  MatmulInput input;
  input.reserve(5, 256);
  for (const uint64_t n_tokens : {5, 1, 2, 40}) {  // 40: more than reserved
    const std::vector<float> x = random_floats(n_tokens * 256, static_cast<uint32_t>(n_tokens));
    const auto check = [&](const WeightStack& w, Precision precision) {
      const uint64_t n_cols = w.unpacked().n_cols(), n_rows = w.unpacked().n_rows();
      std::vector<float> y(n_tokens * n_rows, NAN);
      if (input.n_cols() != n_cols || input.x() != x.data() || input.precision() != precision) {
        input.set(x.data(), n_tokens, n_cols, precision);
      }
      matmul(w.packed(), input, y.data(), workers);
      const std::vector<float> rows(x.data(), x.data() + n_tokens * n_cols);
      CHECK(same_bits(y, product(w.packed(), rows, workers, precision)));
    };
    for (const WeightStack* w : {&a, &b, &codebook, &a, &wide, &a}) check(*w, Precision::normal);
    for (const WeightStack* w : {&wide, &codebook, &wide, &a}) check(*w, Precision::exact);
  }
}

TEST_CASE("activations of any magnitude: powers of two change nothing but the exponent") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const WeightStack w(info.type, 512, 35, 1, random_weights(info.type, 512 * 35, 1));
    for (const uint64_t n_tokens : {1, 4}) {
      const std::vector<float> x = random_floats(n_tokens * 512, 2);
      const std::vector<float> y = product(w.packed(), x, workers);
      for (const int exponent : {-24, 24}) {
        std::vector<float> scaled_x = x, scaled_y = y;
        for (float& v : scaled_x) v = std::ldexp(v, exponent);
        for (float& v : scaled_y) v = std::ldexp(v, exponent);
        CHECK(same_bits(product(w.packed(), scaled_x, workers), scaled_y));
      }
    }
  }
}

TEST_CASE("what is no number stays none, in its own token alone") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0, DType::q4_k, DType::iq4_xs}) {
    const WeightStack w(type, 512, 35, 1, balanced_weights(type, 512 * 35, 1));
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      for (const uint64_t n_tokens : {1, 3}) {
        std::vector<float> x = random_floats(n_tokens * 512, 2);
        x[300] = bad;
        const std::vector<float> y = product(w.packed(), x, workers);
        for (size_t i = 0; i < y.size(); ++i) {
          const float weight = w.row(0, i % 35)[300];
          if (i >= 35) CHECK(std::isfinite(y[i]));
          if (i < 35 && weight != 0) CHECK(!std::isfinite(y[i]));
        }
      }
    }
  }
}

TEST_CASE("zeros give zeros, no tokens give nothing") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  for (const DTypeInfo& info : all_dtypes()) {
    const WeightStack w(info.type, 256, 20, 1, random_weights(info.type, 256 * 20, 1));
    for (const uint64_t n_tokens : {0, 1, 3}) {
      for (const float v : product(w.packed(), std::vector<float>(n_tokens * 256), workers)) {
        CHECK(v == 0);
      }
    }
  }
}

TEST_CASE("a stack, or rows of another length, are refused") {
  const WeightStack w(DType::q8_0, 64, 20, 2, random_weights(DType::q8_0, 64 * 20 * 2, 1));
  Workers workers(1);
  std::vector<float> x(96), y(40);
  MatmulInput input;
  input.set(x.data(), 1, 64);
  CHECK_THROWS_AS(matmul(w.packed(), input, y.data(), workers), Error);
  input.set(x.data(), 1, 96);
  CHECK_THROWS_AS(matmul(w.packed().slice(0), input, y.data(), workers), Error);
  CHECK_THROWS_AS(w.packed().slice(0).part(8, 8), Error);
}
