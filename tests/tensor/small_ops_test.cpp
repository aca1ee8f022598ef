// Norm, rope, softmax, SiLU.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tensor/rms_norm.h"
#include "tensor/rope.h"
#include "tensor/softmax.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;

TEST_CASE("rms_norm divides by the root mean square") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> weight{1, 2, 0.5f, 1};
  std::vector<float> x{3, -4, 0, 5};
  const double rms = std::sqrt((9 + 16 + 25) / 4.0 + 1e-6);
  rms_norm(x.data(), weight, 1e-6f, x.data());  // in place
  CHECK(x[0] == doctest::Approx(3 / rms));
  CHECK(x[1] == doctest::Approx(-8 / rms));
  CHECK(x[2] == 0);
  CHECK(x[3] == doctest::Approx(5 / rms));
}

TEST_CASE("rope turns adjacent pairs, with magnitude one") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const Rope rope({.n_dims = 4, .freq_base = 100});
  float table[4], x[4] = {1, 0, 0, 2};
  rope.fill_table(3, table);
  rotate_pairs(x, table, 4);
  CHECK(x[0] == doctest::Approx(std::cos(3.0)));
  CHECK(x[1] == doctest::Approx(std::sin(3.0)));
  // The second pair turns by 3 * 100^(-2/4).
  CHECK(x[2] == doctest::Approx(-2 * std::sin(0.3)));
  CHECK(x[3] == doctest::Approx(2 * std::cos(0.3)));
}

TEST_CASE("YaRN keeps fast pairs, interpolates slow ones: DeepSeek's numbers") {
  const RopeConfig config{.n_dims = 64, .freq_scale = 1.0f / 40, .yarn = true};
  const auto f = rope_frequencies(config);
  const auto plain = [](int i) { return std::pow(10000.0, -2.0 * i / 64); };
  for (int i = 0; i <= 10; ++i) CHECK(f[i] == doctest::Approx(plain(i)).epsilon(1e-7));
  for (int i = 23; i < 32; ++i) CHECK(f[i] == doctest::Approx(plain(i) / 40).epsilon(1e-7));
  // Between 10 and 23 the blend is linear: pair 15 keeps 1 - 5/13.
  const double mix = 1 - 5.0 / 13;
  CHECK(f[15] == doctest::Approx(plain(15) * ((1 - mix) / 40 + mix)).epsilon(1e-7));
  RopeConfig linear = config;
  linear.yarn = false;
  CHECK(rope_frequencies(linear)[0] == doctest::Approx(1.0 / 40).epsilon(1e-7));
}

TEST_CASE("angles stay exact at long contexts") {
  const Rope rope({.n_dims = 2});
  float table[2];
  rope.fill_table(160001, table);
  CHECK(table[0] == doctest::Approx(std::cos(160001.0)).epsilon(1e-6));
}

TEST_CASE("softmax sums to one and survives extremes") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> x{1000, 1001, -INFINITY};
  softmax(x.data(), x.size());
  CHECK(x[0] == doctest::Approx(1 / (1 + std::exp(1.0))));
  CHECK(x[0] + x[1] == doctest::Approx(1));
  CHECK(x[2] == 0);
  float one = -5;
  softmax(&one, 1);
  CHECK(one == 1);
}

TEST_CASE("silu_mul is silu(gate) * up") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  float gate[3] = {0, 1, -100};
  const float up[3] = {5, 2, 3};
  silu_mul(gate, up, 3);
  CHECK(gate[0] == 0);
  CHECK(gate[1] == doctest::Approx(2 / (1 + std::exp(-1.0))));
  CHECK(gate[2] == doctest::Approx(0));
}
