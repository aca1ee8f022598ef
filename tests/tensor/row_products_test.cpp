// RowProducts at every level against double and against VectorOps, whose order of sums they keep.

#include "tensor/row_products.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tensor/vector_ops.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

// Below, at and above vectors of 8 and 16, their tiles, and the 256 elements of a partial sum.
constexpr uint64_t kRowLengths[] = {1,  2,  7,   8,   9,   15,  16,  17,  31,  33,  63,
                                    64, 65, 192, 255, 256, 257, 271, 512, 576, 1000};
constexpr uint64_t kCounts[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 32};
constexpr uint64_t kGap = 3;  // floats between rows that belong to none
constexpr float kUntouched = 12345;

/// Rows at a distance that is no multiple of anything, and what lies between them is no number.
struct Matrix {
  uint64_t n_rows, n_cols, stride;
  std::vector<float> data;

  Matrix(uint64_t rows, uint64_t cols, uint32_t seed)
      : n_rows(rows), n_cols(cols), stride(cols + kGap), data(rows * stride, NAN) {
    const std::vector<float> values = random_floats(rows * cols, seed);
    for (uint64_t i = 0; i < values.size(); ++i) data[i / cols * stride + i % cols] = values[i];
  }
  const float* row(uint64_t r) const { return data.data() + r * stride; }
  FloatRows rows(uint64_t first = 0) const { return {row(first), stride}; }
};

}  // namespace

TEST_CASE("dots are the sums of VectorOps::dot, bit for bit, and near those in double") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowProducts products = row_products();
  const VectorOps vectors = vector_ops();
  for (const uint64_t n : kRowLengths) {
    const Matrix w(17, n, 1), x(9, n, 2);
    for (const uint64_t n_rows : {1u, 2u, 3u, 4u, 5u, 8u, 17u}) {
      for (const uint64_t n_x : {1u, 2u, 3u, 4u, 5u, 9u}) {
        const uint64_t stride = n_rows + kGap;
        std::vector<float> y(n_x * stride, kUntouched);
        products.dots(w.rows(), n_rows, x.rows(), n_x, n, y.data(), stride);
        for (uint64_t t = 0; t < n_x; ++t) {
          for (uint64_t r = 0; r < stride; ++r) {
            CAPTURE(n);
            const float found = y[t * stride + r];
            REQUIRE(found == (r < n_rows ? vectors.dot(w.row(r), x.row(t), n) : kUntouched));
          }
        }
      }
    }
    for (uint64_t r = 0; r < w.n_rows; ++r) {
      double exact = 0, norm = 0;
      for (uint64_t i = 0; i < n; ++i) {
        exact += double{w.row(r)[i]} * x.row(0)[i];
        norm += std::abs(double{w.row(r)[i]} * x.row(0)[i]);
      }
      float found = 0;
      products.dots(w.rows(r), 1, x.rows(), 1, n, &found, 1);
      CHECK(std::abs(found - exact) <= 2e-6 * norm);
    }
  }
}

TEST_CASE("weighted sums are near those in double, for any sizes, and touch nothing else") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowProducts products = row_products();
  for (const uint64_t n : kRowLengths) {
    for (const uint64_t n_rows : kCounts) {
      const Matrix a(6, n_rows, 3), w(n_rows, n, 4), before(6, n, 5);
      for (const uint64_t n_y : {1u, 3u, 4u, 6u}) {
        std::vector<float> y = before.data;
        products.add_weighted(a.rows(), n_y, w.rows(), n_rows, n, y.data(), before.stride);
        for (uint64_t t = 0; t < 6; ++t) {
          for (uint64_t i = 0; i < before.stride; ++i) {
            const float found = y[t * before.stride + i], start = before.row(t)[i];
            CAPTURE(n);
            CAPTURE(n_rows);
            if (i >= n) {
              REQUIRE(std::isnan(found));
            } else if (t >= n_y) {
              REQUIRE(found == start);
            } else {
              double exact = start, norm = std::abs(start);
              for (uint64_t r = 0; r < n_rows; ++r) {
                exact += double{a.row(t)[r]} * w.row(r)[i];
                norm += std::abs(double{a.row(t)[r]} * w.row(r)[i]);
              }
              REQUIRE(std::abs(found - exact) <= 2e-6 * norm);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a weighted sum is the same alone as among others, and in parts as at once") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const RowProducts products = row_products();
  for (const uint64_t n : kRowLengths) {
    const Matrix a(9, 32, 6), w(32, n, 7);
    std::vector<float> all(9 * n), parts(9 * n);
    products.add_weighted(a.rows(), 9, w.rows(), 32, n, all.data(), n);
    for (uint64_t t = 0; t < 9; ++t) {
      for (uint64_t r = 0; r < 32; r += 8) {
        products.add_weighted({a.row(t) + r, a.stride}, 1, w.rows(r), 8, n, &parts[t * n], n);
      }
    }
    CHECK(parts == all);
  }
}
