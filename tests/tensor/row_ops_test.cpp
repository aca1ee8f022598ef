// RowOps at every level against double or the portable form.

#include "tensor/row_ops.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// The whole range of exp, in steps that hit no special value, and arguments near 0 in ratios.
std::vector<float> exp_arguments() {
  std::vector<float> x;
  for (double v = -112; v < 101; v += 2.1e-4) x.push_back(static_cast<float>(v));
  for (double v = 1e-40; v < 1; v *= 1.01) {
    x.push_back(static_cast<float>(v));
    x.push_back(static_cast<float>(-v));
  }
  return x;
}

void check_exp(float x, float found) {
  const double exact = std::exp(double{x});
  CAPTURE(x);
  if (exact > FLT_MAX) {
    REQUIRE(std::isinf(found));
  } else {
    const double tolerance = exact < FLT_MIN * (1 + 1e-6) ? FLT_MIN : 2e-7 * exact;
    REQUIRE(std::abs(found - exact) <= tolerance);
  }
}

const uint64_t kLengths[] = {1, 2, 7, 8, 15, 16, 17, 64, 255, 256, 257, 1000};

}  // namespace

TEST_CASE("exponentials are within 2e-7 over the whole range") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = exp_arguments();
  std::vector<float> y = x;
  row_ops().exp_sum(y.data(), y.size(), 0);
  for (size_t i = 0; i < x.size(); ++i) check_exp(x[i], y[i]);

  const float nan = std::nanf("");
  float special[] = {0, -INFINITY, INFINITY, nan, 88.72f, 88.73f, -87.4f, -103.9f, -104.5f};
  float found[std::size(special)];
  std::memcpy(found, special, sizeof(found));
  row_ops().exp_sum(found, std::size(found), 0);
  CHECK(found[0] == 1);
  CHECK(found[1] == 0);
  CHECK(found[2] == INFINITY);
  CHECK(std::isnan(found[3]));
  for (size_t i = 4; i < std::size(special); ++i) check_exp(special[i], found[i]);
}

TEST_CASE("an exponential does not depend on its place in the row") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowOps ops = row_ops();
  const std::vector<float> x = random_floats(100, 5);
  std::vector<float> whole = x;
  ops.exp_sum(whole.data(), whole.size(), 1.5f);
  std::vector<float> gated = x;
  ops.silu_mul(gated.data(), x.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    float one = x[i], gate = x[i];
    CHECK(ops.exp_sum(&one, 1, 1.5f) == one);
    CHECK(one == whole[i]);
    ops.silu_mul(&gate, &x[i], 1);
    CHECK(gate == gated[i]);
  }
}

TEST_CASE("sums and the maximum of rows of any length") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowOps ops = row_ops();
  for (const uint64_t n : kLengths) {
    const std::vector<float> x = random_floats(n, static_cast<uint32_t>(n));
    double squares = 0, exps = 0, most = -INFINITY;
    for (const float v : x) {
      squares += double{v} * v;
      most = std::max(most, double{v});
    }
    for (const float v : x) exps += std::exp(v - most);
    CAPTURE(n);
    CHECK(ops.max(x.data(), n) == most);
    CHECK(ops.sum_of_squares(x.data(), n) == doctest::Approx(squares).epsilon(1e-14));
    std::vector<float> e = x;
    CHECK(ops.exp_sum(e.data(), n, static_cast<float>(most)) ==
          doctest::Approx(exps).epsilon(3e-7));
  }
}

TEST_CASE("silu of every size") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> gate, up;
  for (double v = -120; v < 120; v += 0.0071) {
    gate.push_back(static_cast<float>(v));
    up.push_back(1.5f);
  }
  const std::vector<float> x = gate;
  row_ops().silu_mul(gate.data(), up.data(), gate.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = 1.5 * x[i] / (1 + std::exp(-double{x[i]}));
    REQUIRE(std::abs(gate[i] - exact) <= 5e-7 * std::abs(exact) + 1e-36);
  }
}

TEST_CASE("scaling, adding and rotating rows of any length") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowOps ops = row_ops();
  for (const uint64_t n : kLengths) {
    CAPTURE(n);
    const std::vector<float> x = random_floats(n, 1), w = random_floats(n, 2);
    std::vector<float> scaled = x, weighted(n), in_place = x, sum = w;
    ops.scale(scaled.data(), 0.3f, n);
    ops.scale_by(x.data(), 0.3f, w.data(), weighted.data(), n);
    ops.scale_by(in_place.data(), 0.3f, w.data(), in_place.data(), n);
    ops.add(x.data(), sum.data(), n);
    for (uint64_t i = 0; i < n; ++i) {
      REQUIRE(scaled[i] == x[i] * 0.3f);
      REQUIRE(weighted[i] == x[i] * 0.3f * w[i]);
      REQUIRE(in_place[i] == weighted[i]);
      REQUIRE(sum[i] == w[i] + x[i]);
    }
    if (n % 2 != 0) continue;
    std::vector<float> turned = x;
    ops.rotate_pairs(turned.data(), w.data(), n);
    for (uint64_t i = 0; i < n; i += 2) {
      const double c = w[i], s = w[i + 1];
      REQUIRE(turned[i] == doctest::Approx(x[i] * c - x[i + 1] * s).epsilon(1e-6));
      REQUIRE(turned[i + 1] == doctest::Approx(x[i] * s + x[i + 1] * c).epsilon(1e-6));
    }
  }
}

TEST_CASE("halves are f32_to_f16's, bit for bit") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> x;
  // Every float in steps that reach each half and the ties between halves, and both signs.
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 0x7ff) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    const float low = f16_to_f32(static_cast<f16_t>(half));
    const float high = f16_to_f32(static_cast<f16_t>(half + 1));
    x.push_back(low);
    x.push_back(-low / 2 - high / 2);
    x.push_back(std::nextafterf(low / 2 + high / 2, 0));
  }
  x.push_back(65520);
  x.push_back(std::nextafterf(65520, 0));
  std::vector<f16_t> y(x.size());
  row_ops().to_f16(x.data(), y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == f32_to_f16(x[i]));
  for (const uint64_t n : kLengths) {
    std::vector<f16_t> part(n + 1, 0x1234);
    row_ops().to_f16(x.data() + 99, part.data(), n);
    CHECK(std::memcmp(part.data(), y.data() + 99, n * sizeof(f16_t)) == 0);
    CHECK(part[n] == 0x1234);
  }
}

namespace {

/// Blocks of every size of number, from below the smallest scale to beyond the largest.
std::vector<float> blocks_of_all_sizes() {
  std::vector<float> x;
  for (int exponent = -149; exponent < 128; exponent += 3) {
    std::vector<float> block = random_floats(32, static_cast<uint32_t>(exponent + 200));
    for (float& v : block) v = std::ldexp(std::clamp(v, -3.9f, 3.9f), exponent - 2);
    x.insert(x.end(), block.begin(), block.end());
  }
  x.insert(x.end(), 32, 0.0f);
  for (int i = 0; i < 32; ++i) x.push_back(i % 2 == 0 ? -0.0f : 0.0f);
  for (int i = 0; i < 32; ++i) x.push_back(i == 9 ? -FLT_MAX : FLT_MAX);
  // Ties: the scale is 1, and quants lie halfway.
  for (int i = 0; i < 32; ++i) x.push_back(i == 0 ? 127 : static_cast<float>(i - 16) + 0.5f);
  // A scale that is rounded down: the largest would be 128.
  for (int i = 0; i < 32; ++i) x.push_back(i == 3 ? -1.4e-5f : 1e-5f);
  return x;
}

std::vector<BlockQ8_0> to_q8_0(const std::vector<float>& x) {
  std::vector<BlockQ8_0> blocks(x.size() / 32);
  row_ops().to_q8_0(x.data(), blocks.data(), blocks.size());
  return blocks;
}

}  // namespace

TEST_CASE("a block of bytes: its scale is the largest element's, each quant the nearest") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = blocks_of_all_sizes();
  const std::vector<BlockQ8_0> blocks = to_q8_0(x);
  for (size_t b = 0; b < blocks.size(); ++b) {
    CAPTURE(b);
    float most = 0;
    for (int i = 0; i < 32; ++i) most = std::max(most, std::abs(x[32 * b + i]));
    REQUIRE(blocks[b].d == f32_to_f16(most / 127));
    const double d = f16_to_f32(blocks[b].d);
    for (int i = 0; i < 32; ++i) {
      if (d == 0 || std::isinf(d)) {
        REQUIRE(blocks[b].qs[i] == 0);
      } else if (d == 1) {
        REQUIRE(blocks[b].qs[i] == std::nearbyint(x[32 * b + i]));
      } else {
        // Half a step, and what rounding the scale cuts off the largest ones.
        const double quotient = x[32 * b + i] / d;
        REQUIRE(std::abs(blocks[b].qs[i] - std::clamp(quotient, -127.0, 127.0)) <= 0.5 + 1e-4);
      }
    }
  }
}

TEST_CASE("a block of bytes has the same bits at every level") {
  const std::vector<float> x = blocks_of_all_sizes(), random = random_floats(32 * 1000, 11);
  LevelScope scope;
  scope.set(SimdLevel::scalar);
  const std::vector<BlockQ8_0> expected = to_q8_0(x), expected_random = to_q8_0(random);
  for (const SimdLevel level : simd_levels()) {
    scope.set(level);
    const std::vector<BlockQ8_0> found = to_q8_0(x), found_random = to_q8_0(random);
    CAPTURE(name_of(level));
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(BlockQ8_0)) == 0);
    CHECK(std::memcmp(found_random.data(), expected_random.data(),
                      found_random.size() * sizeof(BlockQ8_0)) == 0);
  }
}

TEST_CASE("a block of bytes with an element that is no finite number shows it in its scale") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const uint32_t other_nans[] = {0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff, 0x7fc00000};
  std::vector<float> bad{INFINITY, -INFINITY};
  for (const uint32_t bits : other_nans) bad.push_back(std::bit_cast<float>(bits));
  for (const float v : bad) {
    for (const int at : {0, 1, 15, 16, 31}) {
      std::vector<float> x = random_floats(96, 5);
      x[32 + at] = v;
      const std::vector<BlockQ8_0> blocks = to_q8_0(x);
      CHECK_FALSE(std::isfinite(f16_to_f32(blocks[1].d)));
      CHECK(std::isfinite(f16_to_f32(blocks[0].d)));
      CHECK(std::isfinite(f16_to_f32(blocks[2].d)));
    }
  }
}
