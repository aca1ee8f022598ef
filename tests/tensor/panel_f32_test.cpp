// panel_matmul against sums in double, and the packing of panels.

#include "tensor/panel_f32.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/aligned_floats.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct Shape {
  uint64_t n_tokens, n_k, n_lanes;
};

/// a and the panels have gaps between their rows, b's last lanes are not 0.
struct F32Inputs {
  Shape shape;
  uint64_t a_stride, b_stride;
  std::vector<float> a, b;

  explicit F32Inputs(const Shape& s)
      : shape(s),
        a_stride(s.n_k + 3),
        b_stride(s.n_k * kPanelLanes + 16),
        a(random_floats(s.n_tokens * a_stride, 1)),
        b(random_floats(n_panels_of(s.n_lanes) * b_stride, 2)) {}

  PanelArgs args(std::vector<float>& c, uint64_t c_stride) const {
    PanelArgs args;
    args.a = a.data();
    args.a_stride = a_stride;
    args.b = b.data();
    args.b_stride = b_stride;
    args.c = c.data();
    args.c_stride = c_stride;
    args.n_tokens = shape.n_tokens;
    args.n_k = shape.n_k;
    args.n_lanes = shape.n_lanes;
    return args;
  }
  double expected(uint64_t t, uint64_t i) const {
    double sum = 0;
    for (uint64_t k = 0; k < shape.n_k; ++k) {
      const uint64_t at = i / kPanelLanes * b_stride + k * kPanelLanes + i % kPanelLanes;
      sum += double{a[t * a_stride + k]} * b[at];
    }
    return sum;
  }
};

}  // namespace

TEST_CASE("panel_matmul is the product, writes its lanes alone, and adds where asked to") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const Shape shapes[] = {{1, 1, 1},   {1, 5, 16},  {2, 7, 17},   {3, 192, 33}, {7, 64, 48},
                          {8, 192, 5}, {13, 9, 64}, {23, 31, 95}, {6, 300, 32}, {5, 0, 20}};
  for (const Shape& s : shapes) {
    const F32Inputs in(s);
    const uint64_t c_stride = s.n_lanes + 5;
    std::vector<float> c(s.n_tokens * c_stride, 7.0f);
    panel_matmul(in.args(c, c_stride));
    CAPTURE(s.n_tokens);
    CAPTURE(s.n_lanes);
    // At amx each of n_k products is off by 2^-17 or so, now up, now down.
    const double tolerance = simd_level() == SimdLevel::amx
                                 ? 4e-5 * std::sqrt(static_cast<double>(s.n_k))
                                 : 1e-6 + 3e-7 * static_cast<double>(s.n_k);
    for (uint64_t t = 0; t < s.n_tokens; ++t) {
      for (uint64_t i = 0; i < c_stride; ++i) {
        const bool is_lane = i < s.n_lanes;
        REQUIRE(std::abs(c[t * c_stride + i] - (is_lane ? in.expected(t, i) : 7)) <= tolerance);
      }
    }
    std::vector<float> twice = c;
    PanelArgs args = in.args(twice, c_stride);
    args.accumulate = true;
    panel_matmul(args);
    for (uint64_t t = 0; t < s.n_tokens; ++t) {
      for (uint64_t i = 0; i < s.n_lanes; ++i) {
        REQUIRE(twice[t * c_stride + i] == 2 * c[t * c_stride + i]);
      }
      REQUIRE(twice[t * c_stride + s.n_lanes] == 7);
    }
  }
}

TEST_CASE("an element is the same bit for bit in every tile, alone, and in panels") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const Shape s{19, 77, 75};
  const F32Inputs in(s);
  std::vector<float> whole(s.n_tokens * s.n_lanes);
  panel_matmul(in.args(whole, s.n_lanes));
  for (uint64_t t = 0; t < s.n_tokens; ++t) {
    for (uint64_t n_tokens = 1; t + n_tokens <= s.n_tokens; n_tokens += 5) {
      for (const uint64_t n_lanes : {1, 16, 40, 75}) {
        std::vector<float> part(n_tokens * n_lanes);
        PanelArgs args = in.args(part, n_lanes);
        args.a += t * in.a_stride;
        args.n_tokens = n_tokens;
        args.n_lanes = n_lanes;
        panel_matmul(args);
        for (uint64_t i = 0; i < n_tokens; ++i) {
          REQUIRE(std::memcmp(part.data() + i * n_lanes, whole.data() + (t + i) * s.n_lanes,
                              n_lanes * sizeof(float)) == 0);
        }
      }
    }
  }
  std::vector<float> panels(n_panels_of(s.n_lanes) * s.n_tokens * kPanelLanes);
  PanelArgs args = in.args(panels, kPanelLanes);
  args.c_panel_stride = s.n_tokens * kPanelLanes;
  panel_matmul(args);
  for (uint64_t t = 0; t < s.n_tokens; ++t) {
    for (uint64_t i = 0; i < s.n_lanes; ++i) {
      const uint64_t at = (i / kPanelLanes * s.n_tokens + t) * kPanelLanes + i % kPanelLanes;
      REQUIRE(panels[at] == whole[t * s.n_lanes + i]);
    }
  }
}

TEST_CASE("prepared operands give the same bits, also from a later k and row on") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const Shape shapes[] = {{1, 1, 1}, {19, 77, 75}, {150, 64, 270}, {33, 130, 16}};
  for (const Shape& s : shapes) {
    const uint64_t n_panels = n_panels_of(s.n_lanes), a_stride = prepared_cols(s.n_k) + 16;
    const uint64_t b_stride = (prepared_cols(s.n_k) + 32) * kPanelLanes;
    AlignedFloats a, b;
    a.reserve((s.n_tokens + kPanelLanes) * a_stride);
    b.reserve(n_panels * b_stride);
    const F32Inputs in(s);
    for (uint64_t t = 0; t < s.n_tokens; ++t) {
      std::copy_n(&in.a[t * in.a_stride], s.n_k, a.data() + t * a_stride);
    }
    for (uint64_t p = 0; p < n_panels; ++p) {
      std::copy_n(&in.b[p * in.b_stride], s.n_k * kPanelLanes, b.data() + p * b_stride);
    }
    prepare_rows(a.data(), a_stride, s.n_tokens, s.n_k);
    prepare_panels(b.data(), b_stride, n_panels, s.n_k);
    CAPTURE(s.n_k);
    for (const uint64_t k : {0, 32, 64}) {
      for (const uint64_t token : {0, 16}) {
        if (k >= s.n_k || token >= s.n_tokens) continue;
        const auto product = [&](bool a_prepared, bool b_prepared) {
          std::vector<float> c((s.n_tokens - token) * s.n_lanes);
          PanelArgs args = in.args(c, s.n_lanes);
          args.n_tokens -= token;
          args.n_k -= k;
          args.a += token * in.a_stride + k;
          args.b += k * kPanelLanes;
          if (a_prepared) args.a = a.data() + token * a_stride, args.a_stride = a_stride;
          if (b_prepared) args.b = b.data() + k * kPanelLanes, args.b_stride = b_stride;
          args.a_is_prepared = a_prepared, args.b_is_prepared = b_prepared;
          panel_matmul(args);
          return c;
        };
        const std::vector<float> expected = product(false, false);
        REQUIRE(product(false, true) == expected);
        if (k > 0) continue;  // prepared rows begin at their first column
        REQUIRE(product(true, false) == expected);
        REQUIRE(product(true, true) == expected);
      }
    }
  }
}

TEST_CASE("packing puts rows or columns into lanes and fills up with zeros") {
  for (const uint64_t n_rows : {1, 16, 21}) {
    for (const uint64_t n_cols : {1, 10, 16, 35}) {
      const uint64_t stride = n_cols + 2;
      const std::vector<float> rows = random_floats(n_rows * stride, 3);
      const auto element = [&](uint64_t r, uint64_t c) {
        return r < n_rows && c < n_cols ? rows[r * stride + c] : 0.0f;
      };
      std::vector<float> by_row(n_panels_of(n_rows) * n_cols * kPanelLanes, 9.0f);
      pack_rows_as_lanes(rows.data(), stride, n_rows, n_cols, by_row.data(), n_cols * kPanelLanes);
      for (uint64_t i = 0; i < by_row.size(); ++i) {
        const uint64_t panel = i / (n_cols * kPanelLanes), k = i / kPanelLanes % n_cols;
        REQUIRE(by_row[i] == element(panel * kPanelLanes + i % kPanelLanes, k));
      }
      std::vector<float> by_column(n_panels_of(n_cols) * n_rows * kPanelLanes, 9.0f);
      pack_columns_as_lanes(rows.data(), stride, n_rows, n_cols, by_column.data(),
                            n_rows * kPanelLanes);
      for (uint64_t i = 0; i < by_column.size(); ++i) {
        const uint64_t panel = i / (n_rows * kPanelLanes), k = i / kPanelLanes % n_rows;
        REQUIRE(by_column[i] == element(k, panel * kPanelLanes + i % kPanelLanes));
      }
    }
  }
}

TEST_CASE("aligned scratch begins on a cache line and grows") {
  AlignedFloats floats;
  CHECK(floats.size() == 0);
  for (const uint64_t n : {1, 100, 50, 1000}) {
    float* data = floats.reserve(n);
    CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
    CHECK(floats.size() >= n);
    data[n - 1] = 1;
  }
  CHECK(floats.size() == 1000);
}
