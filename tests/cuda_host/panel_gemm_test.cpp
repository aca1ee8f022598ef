// Panels times many vectors, of every type, against sums in double of the decoded weights.

#include "tensor/panel_gemm_cuda.h"

#include <doctest/doctest.h>

#include "tests/cuda_host/device_weights.h"
#include "tests/support/accuracy.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// Of sums in double over what was rounded to bf16: floats' sums, and a weight here and there that
/// lies half-way between two numbers.
constexpr double kSumTolerance = 2e-4;
/// Of exact products. Each side's rounding costs up to 2^-9 / sqrt(3) = 1.1e-3 of what is added,
/// more of a sum that is smaller than that (minima cancel).
constexpr double kTolerance = 4e-3;

struct Inputs {
  uint32_t n_cols;
  uint64_t stride;
  std::vector<float> x;
  DeviceBuffer<bf16_t> rounded;

  Inputs(uint32_t n_rows, uint32_t n_cols_)
      : n_cols(n_cols_),
        stride((n_cols + 31) / 32 * 32),
        x(activations(Spread::gaussian, n_rows, n_cols, 4)),
        rounded(n_rows * stride) {
    DeviceBuffer<float> from(x);
    to_bf16_cuda({from.data(), n_cols}, n_cols, n_rows, {rounded.data(), stride}, stream());
  }
  DeviceRows<const bf16_t> rows() { return {rounded.data(), stride}; }
};

void check(DType type, uint32_t n_cols, uint32_t n_rows, uint32_t n_outputs) {
  CAPTURE(name_of(type));
  CAPTURE(n_cols);
  CAPTURE(n_outputs);
  const DeviceWeights w(type, n_cols, n_rows, 1, 3);
  Inputs in(n_outputs, n_cols);
  PanelGemmArgs args;
  args.w = w.view();
  args.x = in.rows();
  args.n_outputs = n_outputs;
  const auto y = same_under_schedules([&] {
    DeviceBuffer<float> to(uint64_t{n_outputs} * n_rows);
    args.y = {to.data(), n_rows};
    REQUIRE(panel_gemm_cuda(args, stream()) == 0);
    return written(to);
  });
  RelativeRms rms, sum_rms;
  for (uint32_t o = 0; o < n_outputs; ++o) {
    for (uint32_t r = 0; r < n_rows; ++r) {
      const float* x = &in.x[uint64_t{o} * n_cols];
      const float found = y[uint64_t{o} * n_rows + r];
      rms.add(found, w.product(0, r, x));
      double sum = 0;
      for (uint32_t c = 0; c < n_cols; ++c) {
        sum += double{bf16_to_f32(f32_to_bf16(x[c]))} * bf16_to_f32(f32_to_bf16(w.row(0, r)[c]));
      }
      sum_rms.add(found, sum);
    }
  }
  CHECK(rms.value() < kTolerance);
  CHECK(sum_rms.value() < kSumTolerance);
}

}  // namespace

TEST_CASE("cuda: panel_gemm of every type") {
  for (const DType type : every_dtype()) check(type, 768, 35, 17);
}

TEST_CASE("cuda: panel_gemm of any number of outputs and rows") {
  for (const uint32_t n_outputs : {1u, 2u, 15u, 16u, 17u, 64u, 65u}) {
    check(DType::q8_0, 160, 133, n_outputs);
  }
  check(DType::q5_0, 1408, 16, 20);
  check(DType::f16, 33, 129, 20);
}

TEST_CASE("cuda: panel_gemm of tiles of several matrices, rows of x in any order, to bf16") {
  const uint32_t n_cols = 256, n_rows = 48;
  const DeviceWeights w(DType::q4_k, n_cols, n_rows, 3, 3);
  Inputs in(5, n_cols);
  const std::vector<uint32_t> x_rows{4, 0, 2, 2, 1, 3, 0, 4, 4, 1};
  const std::vector<GemmTile> tiles{{2, 0, 3}, {0, 3, 1}, {0, 4, 6}};
  DeviceBuffer<uint32_t> device_rows(x_rows), n_tiles(std::vector<uint32_t>{3});
  DeviceBuffer<GemmTile> device_tiles(tiles);
  DeviceBuffer<bf16_t> y(x_rows.size() * n_rows);
  PanelGemmArgs args;
  args.w = w.view();
  args.x = in.rows();
  args.x_rows = device_rows.data();
  args.tiles = device_tiles.data();
  args.n_tiles = n_tiles.data();
  args.max_tiles = 5;
  args.y_bf16 = {y.data(), n_rows};
  REQUIRE(panel_gemm_cuda(args, stream()) == 0);
  const auto found = written(y);
  RelativeRms rms;
  for (const GemmTile& tile : tiles) {
    for (uint32_t o = tile.first; o < tile.first + tile.n; ++o) {
      for (uint32_t r = 0; r < n_rows; ++r) {
        rms.add(bf16_to_f32(found[o * n_rows + r]),
                w.product(static_cast<uint64_t>(tile.matrix), r, &in.x[x_rows[o] * n_cols]));
      }
    }
  }
  CHECK(rms.value() < 5e-3);
}

TEST_CASE("cuda: panel_gemm of a vector is the same bits in any company") {
  const uint32_t n_cols = 512, n_rows = 20;
  const DeviceWeights w(DType::q4_k, n_cols, n_rows, 1, 3);
  Inputs in(70, n_cols);
  const auto run = [&](uint32_t first, uint32_t n) {
    DeviceBuffer<float> to(uint64_t{n} * n_rows);
    PanelGemmArgs args;
    args.w = w.view();
    args.x = {in.rounded.data() + first * in.stride, in.stride};
    args.n_outputs = n;
    args.y = {to.data(), n_rows};
    REQUIRE(panel_gemm_cuda(args, stream()) == 0);
    return written(to);
  };
  const auto all = run(0, 70);
  for (const auto& [first, n] : {std::pair{0u, 1u}, {60u, 10u}, {3u, 17u}}) {
    const auto some = run(first, n);
    for (size_t i = 0; i < some.size(); ++i) CHECK(some[i] == all[first * n_rows + i]);
  }
}
