#include "tensor/panel_int16.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "tests/support/panels.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using test::AlignedBytes;
using test::PackedMatrix;
using test::random_floats;

namespace {

std::vector<DType> types_with_kernels() {
  std::vector<DType> result;
  for (const DTypeInfo& info : all_dtypes()) {
    if (int16_kernels(info.type).product != nullptr) result.push_back(info.type);
  }
  return result;
}

struct Int16Inputs {
  uint64_t n_cols, n_tokens;
  std::vector<float> x;
  Int16Layout layout;
  AlignedBytes buffer;
  Int16Rows rows;

  Int16Inputs(uint64_t n_cols_, std::vector<float> x_)
      : n_cols(n_cols_),
        n_tokens(x_.size() / n_cols_),
        x(std::move(x_)),
        layout{n_tokens, n_cols},
        buffer(layout.n_bytes()),
        rows(buffer.data(), layout) {
    for (uint64_t t = 0; t < layout.n_tiles(); ++t) {
      store_int16_tile(x.data(), layout, t, buffer.data());
    }
  }
};

/// y[t][row]; max_tiles of tokens at a time.
std::vector<float> product(const PackedMatrix& w, const Int16Inputs& in,
                           uint64_t max_tiles = Int16Product::kMaxTiles) {
  const Int16Kernels kernels = int16_kernels(w.type);
  const PanelMatrix view = w.view();
  std::vector<float> row_scales(view.n_panels() * 16), y(in.n_tokens * w.n_rows, NAN);
  kernels.row_scales(view, row_scales.data());
  for (uint64_t tile = 0; tile < in.layout.n_tiles(); tile += max_tiles) {
    const uint64_t n_tiles = std::min(max_tiles, in.layout.n_tiles() - tile);
    kernels.product({view, row_scales.data(), in.rows.part(tile, n_tiles, in.n_cols),
                     &y[16 * tile * w.n_rows], w.n_rows});
  }
  return y;
}

double exact_sum(const PackedMatrix& w, const Int16Inputs& in, uint64_t t, uint64_t r) {
  double sum = 0;
  for (uint64_t c = 0; c < w.n_cols; ++c) {
    sum += double{w.values[r * w.n_cols + c]} * in.x[t * w.n_cols + c];
  }
  return sum;
}

/// Relative RMS distance of one row's results from sums in double.
double row_error(const PackedMatrix& w, const Int16Inputs& in, const std::vector<float>& y,
                 uint64_t r) {
  double error = 0, norm = 1e-300;
  for (uint64_t t = 0; t < in.n_tokens; ++t) {
    const double sum = exact_sum(w, in, t, r);
    error += std::pow(y[t * w.n_rows + r] - sum, 2);
    norm += sum * sum;
  }
  const double rms = std::sqrt(error / norm);
  return std::isnan(rms) ? INFINITY : rms;
}

/// Of all rows together.
double rms_of_errors(const PackedMatrix& w, const Int16Inputs& in, const std::vector<float>& y) {
  double error = 0, norm = 1e-300;
  for (uint64_t i = 0; i < y.size(); ++i) {
    const double sum = exact_sum(w, in, i / w.n_rows, i % w.n_rows);
    error += std::pow(y[i] - sum, 2);
    norm += sum * sum;
  }
  const double rms = std::sqrt(error / norm);
  return std::isnan(rms) ? INFINITY : rms;
}

bool amx_in_force(test::LevelScope& scope) { return scope.set(SimdLevel::amx); }

}  // namespace

TEST_CASE("int16 tiles and their rest hold a token's columns to 2^-16 of the largest") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  for (const uint64_t n_cols : {32, 64, 96, 500, 2048, 2100, 4160}) {
    CAPTURE(n_cols);
    std::vector<float> x = random_floats(19 * n_cols, 3);
    for (uint64_t c = 0; c < n_cols; ++c) x[17 * n_cols + c] = 0;
    if (n_cols > 400) x[3 * n_cols + 70] = 60.0f, x[18 * n_cols + 300] = -200.0f;
    const Int16Inputs in(n_cols, x);
    uint64_t n_groups_with_rest = 0;
    for (uint64_t i = 0; i < in.layout.n_flags(); ++i) n_groups_with_rest += in.rows.has_rest[i];
    CHECK(n_groups_with_rest == (n_cols > 400 ? 2 : 0));
    for (uint64_t t = 0; t < in.layout.scale_stride(); ++t) {
      const uint64_t n_groups = n_int16_groups(n_cols);
      for (uint64_t c = 0; c < n_groups * 64; ++c) {
        const auto value_in = [&](const std::byte* tiles, const float* scales) {
          const std::byte* at =
              tiles + t / 16 * int16_tile_stride(n_cols) + t % 16 * 64 + c / 64 * 2048 + c % 64;
          const int fixed = 256 * static_cast<int8_t>(at[0]) + static_cast<int8_t>(at[1024]);
          return static_cast<float>(fixed) * scales[c / kInt16StepCols * in.rows.scale_stride + t];
        };
        float found = value_in(in.rows.tiles, in.rows.scales);
        if (in.rows.has_rest[t / 16 * n_groups + c / 64] != 0) {
          found += value_in(in.rows.rest, in.rows.rest_scales);
        }
        const float value = t < 19 && c < n_cols ? x[t * n_cols + c] : 0;
        REQUIRE(std::abs(found - value) <= std::max(32.0f, std::abs(value)) / 65000);
        if (value == 0) REQUIRE(found == 0);
      }
    }
  }
}

TEST_CASE("products in 16-bit fixed point are near the exact sums, of every type and shape") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  CHECK(types_with_kernels().size() >= 14);
  for (const DType type : types_with_kernels()) {
    CAPTURE(name_of(type));
    const uint64_t unit = std::max(32u, info_of(type).block_size);
    for (const uint64_t n_cols : {unit, 3 * unit, 2048 + 5 * unit}) {
      for (const uint64_t n_rows : {16, 53}) {
        const PackedMatrix w(type, n_cols, n_rows, 5);
        for (const uint64_t n_tokens : {5, 16, 17, 33, 70}) {
          CAPTURE(n_cols);
          CAPTURE(n_rows);
          CAPTURE(n_tokens);
          const Int16Inputs in(n_cols, random_floats(n_cols * n_tokens, 9));
          CHECK(rms_of_errors(w, in, product(w, in)) < 6e-4);
        }
      }
    }
  }
}

TEST_CASE("outlier channels leave products in fixed point near the exact sums") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q8_0}) {
    CAPTURE(name_of(type));
    const PackedMatrix w(type, 2048, 48, 5);
    std::vector<float> x = random_floats(2048 * 20, 9);
    for (uint64_t i = 0; i < x.size(); ++i) x[i] *= i % 2048 % 300 == 7 ? 40.0f : 1.0f;
    const Int16Inputs in(2048, x);
    CHECK(rms_of_errors(w, in, product(w, in)) < 6e-4);
  }
}

TEST_CASE("a row of small weights is as exact as its neighbours") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  PackedMatrix w(DType::q8_0, 256, 32, 5);
  const uint64_t block_bytes = 34, row = row_bytes(DType::q8_0, 256);
  for (uint64_t r = 0; r < 32; r += 3) {
    for (uint64_t b = 0; b < 8; ++b) {
      std::byte& high = w.bytes[r * row + b * block_bytes + 1];  // 1/64 of the scale
      high = std::byte{static_cast<uint8_t>(std::max(4, static_cast<int>(high) - 6 * 4))};
    }
  }
  for (uint64_t p = 0; p < 2; ++p) {
    w.exponents[p] = pack_panel(DType::q8_0, w.bytes.data() + 16 * p * row, 16, 256,
                                w.panels.data() + p * panel_bytes(DType::q8_0, 256));
  }
  dequantize(DType::q8_0, w.bytes.data(), w.values.data(), w.values.size());
  const Int16Inputs in(256, random_floats(256 * 40, 9));
  const std::vector<float> y = product(w, in);
  for (uint64_t r = 0; r < 32; ++r) CHECK(row_error(w, in, y, r) < 1e-3);
}

TEST_CASE("sums in fixed point have the same bits whatever tokens and panels lie beside") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  const PackedMatrix w(DType::q4_k, 2560, 53, 5);
  std::vector<float> x = random_floats(2560 * 70, 9);
  x[2560 * 15 + 100] = x[2560 * 40 + 2100] = 50;  // outliers
  const std::vector<float> all = product(w, Int16Inputs(2560, x));
  CHECK(product(w, Int16Inputs(2560, x), 1) == all);
  CHECK(product(w, Int16Inputs(2560, x), 2) == all);
  for (const uint64_t t : {0, 15, 16, 40, 41, 69}) {
    const auto first = x.begin() + static_cast<std::ptrdiff_t>(t * 2560);
    const std::vector<float> y = product(w, Int16Inputs(2560, {first, first + 2560}));
    CHECK(std::memcmp(y.data(), &all[t * 53], 53 * sizeof(float)) == 0);
  }
}

TEST_CASE("zeros give zeros, and a token that is not finite spoils no other") {
  test::LevelScope scope;
  if (!amx_in_force(scope)) return;
  const PackedMatrix w(DType::q6_k, 512, 20, 5);
  std::vector<float> x = random_floats(512 * 18, 9);
  const std::vector<float> before = product(w, Int16Inputs(512, x));
  std::fill_n(x.begin(), 512, 0.0f);
  x[512 * 3 + 100] = std::numeric_limits<float>::infinity();
  x[512 * 17 + 5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = product(w, Int16Inputs(512, x));
  for (uint64_t t = 0; t < 18; ++t) {
    for (uint64_t r = 0; r < 20; ++r) {
      const float value = y[t * 20 + r];
      if (t == 0) {
        CHECK(value == 0);
      } else if (t == 3 || t == 17) {
        CHECK(std::isnan(value));
      } else {
        CHECK(value == before[t * 20 + r]);
      }
    }
  }
}
