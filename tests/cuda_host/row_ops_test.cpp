// Kernels on rows of floats against the ops of the CPU.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "tensor/activation_blocks_cuda.h"
#include "tensor/rms_norm.h"
#include "tensor/rope.h"
#include "tensor/row_ops_cuda.h"
#include "tests/cuda_host/schedules.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

DeviceRows<const float> rows(DeviceBuffer<float>& x, uint64_t stride) { return {x.data(), stride}; }

/// |found - expected| against what float arithmetic allows.
void check_close(const std::vector<float>& found, const std::vector<double>& expected, double tol) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(found[i] - expected[i]) <= tol * (1 + std::abs(expected[i])));
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }

}  // namespace

TEST_CASE("cuda: rms_norm of rows of any length") {
  for (const uint32_t n : {1u, 255u, 512u, 1536u, 7168u}) {
    const uint32_t n_rows = n > 2000 ? 2 : 3;
    const uint64_t stride = n + 5;
    const auto x = random_floats(n_rows * stride, 1), weight = random_floats(n, 2);
    const auto y = same_under_schedules([&] {
      DeviceBuffer<float> from(x), w(weight), to(uint64_t{n_rows} * n);
      rms_norm_cuda(rows(from, stride), w.data(), n, n_rows, 1e-6f, {to.data(), n}, stream());
      return written(to);
    });
    std::vector<double> expected;
    for (uint32_t r = 0; r < n_rows; ++r) {
      double sum = 0;
      for (uint32_t i = 0; i < n; ++i) sum += std::pow(x[r * stride + i], 2);
      const double scale = 1 / std::sqrt(sum / n + 1e-6);
      for (uint32_t i = 0; i < n; ++i) expected.push_back(x[r * stride + i] * scale * weight[i]);
    }
    check_close(y, expected, 1e-6);
  }
}

TEST_CASE("cuda: rope turns the heads of a token to its position") {
  const RopeConfig config{.n_dims = 64, .freq_scale = 1.0f / 40, .yarn = true};
  const Rope rope(config);
  const std::vector<int32_t> positions{0, 5, 163839};
  const uint32_t n_heads = 3, head_stride = 192, n_tokens = 3;
  const auto x = random_floats(n_tokens * n_heads * head_stride, 1);
  const auto y = same_under_schedules([&] {
    DeviceBuffer<double> frequencies(rope_frequencies(config));
    DeviceBuffer<int32_t> at(positions);
    DeviceBuffer<float> table(n_tokens * 64), to(x);
    fill_rope_table_cuda(frequencies.data(), 64, at.data(), n_tokens, table.data(), stream());
    // The rotary part of a head is its last 64 of 192.
    rotate_pairs_cuda({to.data() + 128, n_heads * head_stride}, n_heads, head_stride, table.data(),
                      64, n_tokens, stream());
    return to.download();
  });
  std::vector<float> expected = x;
  for (uint32_t t = 0; t < n_tokens; ++t) {
    std::vector<float> table(64);
    rope.fill_table(static_cast<uint64_t>(positions[t]), table.data());
    for (uint32_t h = 0; h < n_heads; ++h) {
      rotate_pairs(&expected[(t * n_heads + h) * head_stride + 128], table.data(), 64);
    }
  }
  check_close(y, {expected.begin(), expected.end()}, 1e-6);
}

TEST_CASE("cuda: silu_mul, sums and rounding to bf16, with gaps between rows") {
  const uint32_t n = 300, n_rows = 3;
  const uint64_t stride = 310;
  const auto a = random_floats(n_rows * stride, 1), b = random_floats(n_rows * stride, 2);
  DeviceBuffer<float> gate(a), up(b), sums(b);
  DeviceBuffer<bf16_t> halves(n_rows * 320), of_gate(n_rows * 320);
  silu_mul_cuda({gate.data(), stride}, rows(up, stride), n, n_rows, {halves.data(), 320}, {},
                stream());
  to_bf16_cuda({gate.data(), stride}, n, n_rows, {of_gate.data(), 320}, stream());
  add_rows_cuda({gate.data(), stride}, {sums.data(), stride}, n, n_rows, stream());
  silu_mul_cuda({gate.data(), stride}, rows(up, stride), n, n_rows, {}, {}, stream());
  const auto hidden = gate.download(), added = sums.download();
  const auto rounded = written(halves), rounded_gate = written(of_gate);
  for (uint32_t r = 0; r < n_rows; ++r) {
    for (uint32_t i = 0; i < 320; ++i) {
      const size_t at = r * stride + i, to = r * 320 + i;
      if (i >= n) {
        CHECK(rounded[to] == 0);
        CHECK(rounded_gate[to] == 0);
        if (i < stride) CHECK((hidden[at] == a[at] && added[at] == b[at]));
        continue;
      }
      CHECK(hidden[at] == doctest::Approx(silu(a[at]) * b[at]).epsilon(1e-6));
      CHECK(bf16_to_f32(rounded[to]) == doctest::Approx(hidden[at]).epsilon(0x1p-8));
      CHECK(rounded_gate[to] == f32_to_bf16(a[at]));
      CHECK(added[at] == a[at] + b[at]);
    }
  }
}

TEST_CASE("cuda: activations become the CPU's bytes, bit for bit") {
  for (const uint32_t n : {1u, 31u, 32u, 256u, 1408u, 7168u}) {
    const uint32_t n_rows = 2;
    auto x = activations(Spread::outliers, n_rows, n, 3);
    if (n == 256) {
      for (uint32_t i = 0; i < 32; ++i) x[64 + i] = 0;
      x[5] = INFINITY;
      x[40] = NAN;
      x[100] = 1e-38f;
    }
    const uint64_t n_blocks = n_activation_blocks(n);
    std::vector<ActivationBlock> expected(n_rows * 2 * n_blocks);
    for (uint32_t r = 0; r < n_rows; ++r) {
      ActivationBlock* row = &expected[r * 2 * n_blocks];
      quantize_row(&x[uint64_t{r} * n], n, row, row + n_blocks);
    }
    const auto found = same_under_schedules([&] {
      DeviceBuffer<float> from(x);
      DeviceBuffer<ActivationBlock> to(expected.size());
      quantize_rows_cuda(rows(from, n), n, n_rows, to.data(), stream());
      const auto blocks = written(to);
      std::vector<uint32_t> words(blocks.size() * sizeof(ActivationBlock) / 4);
      std::memcpy(words.data(), blocks.data(), words.size() * 4);
      return words;
    });
    CAPTURE(n);
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * 4) == 0);
  }
}

TEST_CASE("cuda: silu_mul into bytes") {
  const uint32_t n = 1408;
  const auto a = random_floats(n, 1), b = random_floats(n, 2);
  DeviceBuffer<float> gate(a), up(b);
  const uint64_t n_blocks = n_activation_blocks(n);
  DeviceBuffer<ActivationBlock> to(2 * n_blocks);
  silu_mul_quantize_cuda(rows(gate, n), rows(up, n), n, 1, to.data(), {}, stream());
  const auto blocks = written(to);
  for (uint32_t i = 0; i < n; ++i) {
    const ActivationBlock &first = blocks[i / 256], &rest = blocks[n_blocks + i / 256];
    const double found = first.scale[i % 256 / 32] * (first.q[i % 256] + rest.q[i % 256] / 256.0);
    const double scale = first.scale[i % 256 / 32];
    CHECK(std::abs(found - silu(a[i]) * b[i]) < scale / 256 * 1.2);
  }
}
