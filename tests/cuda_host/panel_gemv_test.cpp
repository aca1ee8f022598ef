// Panels times a few vectors, of every type, against sums in double of the decoded weights.

#include "tensor/panel_gemv_cuda.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "tests/cuda_host/device_weights.h"
#include "tests/support/accuracy.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// Two rounds of bytes leave 3e-5 of a product's RMS (docs/kernels.md); floats their own rounding.
double tolerance(DType type) { return is_float(type) ? 1e-6 : 1e-4; }

/// y of n_outputs vectors.
std::vector<float> run(const DeviceWeights& w, const std::vector<float>& x, PanelGemvArgs args) {
  const DevicePanels& view = w.view();
  const std::vector<float> nothing(uint64_t{args.n_outputs} * (view.n_rows + 3), NAN);
  DeviceBuffer<float> floats(x), y(nothing);
  const auto blocks = quantized(x, view.n_cols);
  args.w = view;
  args.x = blocks->data();
  args.x_floats = {floats.data(), view.n_cols};
  args.y = {y.data(), view.n_rows + 3};
  REQUIRE(panel_gemv_cuda(args, stream()) == 0);
  return y.download();
}

void check(DType type, uint32_t n_cols, uint32_t n_rows, uint32_t n_tokens, bool schedules) {
  CAPTURE(name_of(type));
  CAPTURE(n_cols);
  CAPTURE(n_tokens);
  const DeviceWeights w(type, n_cols, n_rows, 1, 3);
  const auto x = activations(Spread::gaussian, n_tokens, n_cols, 4);
  PanelGemvArgs args;
  args.n_outputs = n_tokens;
  const auto once = [&] { return run(w, x, args); };
  std::vector<float> y = once();
  if (schedules) {
    const std::vector<uint32_t> bits = same_under_schedules([&] {
      const auto found = once();
      std::vector<uint32_t> words(found.size());
      std::memcpy(words.data(), found.data(), 4 * words.size());  // NaN between rows
      return words;
    });
    std::memcpy(y.data(), bits.data(), 4 * bits.size());
  }
  RelativeRms rms;
  for (uint32_t t = 0; t < n_tokens; ++t) {
    for (uint32_t r = 0; r < n_rows; ++r) {
      rms.add(y[t * (n_rows + 3) + r], w.product(0, r, &x[uint64_t{t} * n_cols]));
    }
    CHECK(std::isnan(y[t * (n_rows + 3) + n_rows]));  // what lies between rows is left alone
  }
  CHECK(rms.value() < tolerance(type));
}

}  // namespace

TEST_CASE("cuda: panel_gemv of every type") {
  for (const DType type : every_dtype()) {
    // One and a half units of the widest type; rows that fill no panel.
    check(type, 768, 35, 1, true);
    check(type, 1792, 16, 1, false);
  }
}

TEST_CASE("cuda: panel_gemv of any number of tokens") {
  for (const DType type : {DType::f16, DType::q8_0, DType::q4_k, DType::q6_k, DType::iq2_xs}) {
    for (const uint32_t n_tokens : {2u, 3u, 4u, 5u, 8u, 9u}) check(type, 512, 33, n_tokens, false);
  }
}

TEST_CASE("cuda: panel_gemv of columns that end within a part") {
  for (const uint32_t n_cols : {32u, 96u, 160u, 1408u}) {
    for (const DType type : {DType::q4_0, DType::q5_1, DType::q8_0, DType::mxfp4}) {
      check(type, n_cols, 17, 1, false);
    }
  }
  for (const uint32_t n_cols : {1u, 7u, 33u, 127u, 130u}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) check(type, n_cols, 5, 2, false);
  }
}

TEST_CASE("cuda: panel_gemv of experts, of which some are elsewhere") {
  const uint32_t n_cols = 512, n_rows = 32, n_used = 3;
  const DeviceWeights w(DType::q4_k, n_cols, n_rows, 4, 3);
  const auto x = activations(Spread::gaussian, 2, n_cols, 4);
  const std::vector<int32_t> ids{5, 0, 3, 3, 1, 5}, local{2, -1, 0, 1, -1, 3};
  DeviceBuffer<int32_t> device_ids(ids), device_local(local);
  PanelGemvArgs args;
  args.matrices = device_ids.data();
  args.local = device_local.data();
  args.n_outputs = 6;
  args.outputs_per_input = n_used;
  const auto y = run(w, x, args);
  RelativeRms rms;
  for (uint32_t slot = 0; slot < ids.size(); ++slot) {
    const int32_t matrix = local[static_cast<size_t>(ids[slot])];
    for (uint32_t r = 0; r < n_rows; ++r) {
      const float found = y[slot * (n_rows + 3) + r];
      if (matrix < 0) {
        CHECK(std::isnan(found));
      } else {
        rms.add(found, w.product(static_cast<uint64_t>(matrix), r, &x[slot / n_used * n_cols]));
      }
    }
  }
  CHECK(rms.value() < 1e-4);
}

TEST_CASE("cuda: panel_gemv with a vector for each head") {
  for (const DType type : {DType::f16, DType::q8_0}) {
    const uint32_t n_cols = 128, n_rows = 3 * 64, n_tokens = 2;
    const DeviceWeights w(type, n_cols, n_rows, 1, 3);
    const auto x = activations(Spread::gaussian, n_tokens * 3, n_cols, 4);
    PanelGemvArgs args;
    args.n_outputs = n_tokens;
    args.rows_per_input = 64;
    const auto y = run(w, x, args);
    RelativeRms rms;
    for (uint32_t t = 0; t < n_tokens; ++t) {
      for (uint32_t r = 0; r < n_rows; ++r) {
        rms.add(y[t * (n_rows + 3) + r], w.product(0, r, &x[(t * 3 + r / 64) * n_cols]));
      }
    }
    CHECK(rms.value() < tolerance(type));
  }
}

TEST_CASE("cuda: panel_gemv of a vector is the same bits in any company") {
  for (const DType type : {DType::bf16, DType::q5_1, DType::q6_k}) {
    const uint32_t n_cols = 768, n_rows = 16, stride = n_rows + 3;
    const DeviceWeights w(type, n_cols, n_rows, 1, 3);
    const auto x = activations(Spread::outliers, 7, n_cols, 4);
    PanelGemvArgs args;
    args.n_outputs = 7;
    const auto all = run(w, x, args);
    for (const uint32_t n : {1u, 2u, 3u}) {
      args.n_outputs = n;
      const std::vector<float> last(x.end() - n * n_cols, x.end());
      const auto some = run(w, last, args);
      for (uint32_t t = 0; t < n; ++t) {
        for (uint32_t r = 0; r < n_rows; ++r) {
          CHECK(some[t * stride + r] == all[(7 - n + t) * stride + r]);
        }
      }
    }
  }
}
