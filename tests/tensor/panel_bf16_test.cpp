#include "tensor/panel_bf16.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/half.h"
#include "tensor/precision.h"
#include "tests/support/panels.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using test::AlignedBytes;
using test::PackedMatrix;
using test::random_floats;

namespace {

/// Activations in tiles; at normal precision rounded to bf16 beforehand.
struct Inputs {
  Precision precision;
  uint64_t n_cols, n_tokens;
  std::vector<float> x;
  AlignedBytes tiles, rest;

  Inputs(uint64_t n_cols_, uint64_t n_tokens_, Precision precision_ = Precision::normal)
      : precision(precision_),
        n_cols(n_cols_),
        n_tokens(n_tokens_),
        x(random_floats(n_cols * n_tokens, 9)),
        tiles(tiles_bytes(n_tokens, n_cols)),
        rest(tiles.size()) {
    std::memset(tiles.data(), 0xff, tiles.size());  // rows without a token: not a number
    std::memset(rest.data(), 0xff, rest.size());
    if (precision == Precision::normal) {
      for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));
    }
    for (uint64_t t = 0; t < n_tokens; ++t) {
      store_tile_row(x.data() + t * n_cols, n_cols, tiles.data(), places().row(t));
      store_tile_rest(x.data() + t * n_cols, n_cols, rest.data(), places().row(t));
    }
  }
  TokenTiles places() const { return TokenTiles(n_tokens); }
  uint64_t n_tiles() const { return places().n_tiles(); }
};

/// y[t][row], of `first` alone; columns in steps of n_cols, if not 0.
std::vector<float> product(const PackedMatrix& w, const Inputs& in, uint64_t begin, uint64_t end,
                           uint64_t n_cols = 0) {
  std::vector<float> y(in.n_tokens * w.n_rows, NAN);
  uint64_t first_tile = 0;
  const auto done = [&](const Bf16Product::Sums& s) {
    for (int p = 0; p < s.n_panels; ++p) {
      for (uint64_t j = 0; j < s.n_tiles * 16; ++j) {
        if (j % 16 >= s.per_tile) continue;
        for (uint64_t r = 0; r < 16; ++r) {
          const uint64_t t = s.per_tile * (first_tile + s.tile + j / 16) + j % 16;
          const uint64_t row = 16 * (2 * s.pair + p) + r;
          if (t >= in.n_tokens || row >= w.n_rows) continue;
          float& to = y[t * w.n_rows + row];
          const float sum = s.sums[(p * s.n_tiles * 16 + j) * 16 + r] * s.factor[p];
          to = s.adds ? to + sum : sum;
        }
      }
    }
  };
  const bool parts = in.precision != Precision::normal;
  const uint64_t tile_size = tiles_bytes(1, w.n_cols);
  const uint64_t step = n_cols == 0 ? w.n_cols : n_cols;
  for (; first_tile < in.n_tiles(); first_tile += Bf16Product::kMaxTiles) {
    for (uint64_t col = 0; col < w.n_cols; col += step) {
      bf16_product(w.type)({w.view(),
                            {},
                            in.tiles.data() + first_tile * tile_size,
                            parts ? in.rest.data() + first_tile * tile_size : nullptr,
                            std::min(Bf16Product::kMaxTiles, in.n_tiles() - first_tile),
                            in.places().per_tile(),
                            done,
                            col,
                            n_cols == 0 ? 0 : std::min(step, w.n_cols - col)},
                           begin, end);
    }
  }
  return y;
}

/// Relative RMS distance from sums in double over the exact weights.
double rms_error(const PackedMatrix& w, const Inputs& in, const std::vector<float>& y) {
  double error = 0, norm = 1e-30;
  for (uint64_t t = 0; t < in.n_tokens; ++t) {
    for (uint64_t r = 0; r < w.n_rows; ++r) {
      double sum = 0;
      for (uint64_t c = 0; c < w.n_cols; ++c) {
        sum += static_cast<double>(w.values[r * w.n_cols + c]) * in.x[t * w.n_cols + c];
      }
      error += std::pow(y[t * w.n_rows + r] - sum, 2);
      norm += sum * sum;
    }
  }
  const double rms = std::sqrt(error / norm);
  return std::isnan(rms) ? INFINITY : rms;
}

}  // namespace

TEST_CASE("matrix unit products of every type round weights to bf16 and nothing else") {
  test::LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    CHECK((bf16_product(info.type) == nullptr) == (info.type == DType::f32));
    if (info.type == DType::f32) continue;
    for (const uint64_t n_cols : {uint64_t{info.block_size == 1 ? 40u : info.block_size},
                                  uint64_t{3} * std::max(32u, info.block_size)}) {
      for (const uint64_t n_rows : {16, 53}) {
        for (const uint64_t n_tokens : {1, 15, 16, 17, 33, 48, 64, 70, 96}) {
          CAPTURE(n_cols);
          CAPTURE(n_rows);
          CAPTURE(n_tokens);
          const PackedMatrix w(info.type, n_cols, n_rows, 5);
          const Inputs in(n_cols, n_tokens);
          const std::vector<float> y = product(w, in, 0, (w.view().n_panels() + 1) / 2);
          CHECK(rms_error(w, in, y) < (info.type == DType::bf16 ? 1e-6 : 3.5e-3));
        }
      }
    }
  }
}

TEST_CASE("fine rounding leaves the weights' error") {
  test::LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  for (const DTypeInfo& info : all_dtypes()) {
    if (info.type == DType::f32) continue;
    CAPTURE(info.name);
    for (const uint64_t n_tokens : {5, 17, 48, 70}) {
      CAPTURE(n_tokens);
      const PackedMatrix w(info.type, 3 * std::max<uint64_t>(64, info.block_size), 53, 5);
      const Inputs fine(w.n_cols, n_tokens, Precision::fine);
      const double limit = info.type == DType::bf16 ? 1e-5 : 3.5e-3;
      CHECK(rms_error(w, fine, product(w, fine, 0, 2)) < limit);
    }
  }
}

TEST_CASE("columns may be summed in steps") {
  test::LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  for (const DType type : {DType::q4_k, DType::q6_k, DType::iq4_nl, DType::iq2_xs}) {
    CAPTURE(name_of(type));
    const uint64_t n_cols = type == DType::iq4_nl ? 1376 : 1280;
    const PackedMatrix w(type, n_cols, 53, 5);
    const Inputs in(n_cols, 40);
    CHECK(rms_error(w, in, product(w, in, 0, 2, 512)) < 3.5e-3);
    CHECK(rms_error(w, in, product(w, in, 0, 2, 256)) < 3.5e-3);
  }
}

TEST_CASE("gate and up go through the matrix unit as a pair, each with its own exponent") {
  test::LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  PackedMatrix gate(DType::q4_0, 96, 48, 5);
  for (size_t i = 0; i < gate.bytes.size(); i += 18) gate.bytes[i + 1] = std::byte{0x3c};
  const uint64_t size = panel_bytes(DType::q4_0, 96), rows = 16 * row_bytes(DType::q4_0, 96);
  for (uint64_t p = 0; p < 3; ++p) {
    gate.exponents[p] = pack_panel(DType::q4_0, gate.bytes.data() + p * rows, 16, 96,
                                   gate.panels.data() + p * size);
  }
  dequantize(DType::q4_0, gate.bytes.data(), gate.values.data(), gate.values.size());
  const PackedMatrix up(DType::q4_0, 96, 48, 6);
  CHECK(gate.exponents[0] != up.exponents[0]);
  const Inputs in(96, 20);
  std::vector<float> y[2] = {std::vector<float>(20 * 48), std::vector<float>(20 * 48)};
  const auto done = [&](const Bf16Product::Sums& s) {
    CHECK(s.n_panels == 2);
    for (int p = 0; p < 2; ++p) {
      for (uint64_t i = 0; i < s.n_tiles * 256; ++i) {
        if (i / 16 % 16 >= 10) continue;
        const uint64_t t = i / 256 * 10 + i / 16 % 16;
        y[p][t * 48 + 16 * s.pair + i % 16] = s.sums[p * s.n_tiles * 256 + i] * s.factor[p];
      }
    }
  };
  bf16_product(DType::q4_0)({gate.view(), up.view(), in.tiles.data(), nullptr, 2, 10, done}, 0, 3);
  CHECK(rms_error(gate, in, y[0]) < 3.5e-3);
  CHECK(rms_error(up, in, y[1]) < 3.5e-3);
}

TEST_CASE("matrix unit sums have the same bits whatever the range of pairs and the tokens beside") {
  test::LevelScope scope;
  if (!scope.set(SimdLevel::amx)) return;
  const PackedMatrix w(DType::q6_k, 768, 90, 5);
  const Inputs in(768, 90);
  const std::vector<float> all = product(w, in, 0, 3);
  for (uint64_t pair = 0; pair < 3; ++pair) {
    const std::vector<float> part = product(w, in, pair, pair + 1);
    for (uint64_t t = 0; t < 90; ++t) {
      for (uint64_t r = 32 * pair; r < std::min<uint64_t>(90, 32 * pair + 32); ++r) {
        REQUIRE(part[t * 90 + r] == all[t * 90 + r]);
      }
    }
  }
  Inputs few(768, in.places().per_tile());
  std::memcpy(few.tiles.data(), in.tiles.data(), few.tiles.size());
  const std::vector<float> y = product(w, few, 0, 3);
  for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == all[i]);
}
