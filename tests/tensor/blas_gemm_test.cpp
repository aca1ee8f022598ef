// Products of row-major matrices in BLAS's words, evaluated as BLAS defines them.

#include "tensor/blas_gemm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/random_weights.h"
#include "tests/support/reference_blas.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

std::vector<bf16_t> random_bf16(uint64_t n, uint32_t seed) {
  std::vector<bf16_t> bits(n);
  std::ranges::transform(random_floats(n, seed), bits.begin(), f32_to_bf16);
  return bits;
}

/// Compares with the row-major formula; what lies between rows and matrices must stay.
void check(RowGemm g) {
  CAPTURE(g.is_w_transposed);
  CAPTURE(g.adds);
  const uint32_t w_rows = g.is_w_transposed ? g.n_cols : g.n_inner;
  const auto size = [&](const auto& rows, uint32_t n) {
    return (g.n_batch - 1) * rows.batch_stride + n * rows.stride;
  };
  const std::vector<bf16_t> a = random_bf16(size(g.a, g.n_rows), 1);
  const std::vector<bf16_t> w = random_bf16(size(g.w, w_rows), 2);
  std::vector<float> c = random_floats(size(g.c, g.n_rows), 3);
  if (!g.adds) std::fill(c.begin(), c.end(), NAN);
  std::vector<float> expected = c;
  for (uint64_t b = 0; b < g.n_batch; ++b) {
    for (uint64_t i = 0; i < g.n_rows; ++i) {
      for (uint64_t j = 0; j < g.n_cols; ++j) {
        double sum = 0;
        for (uint64_t k = 0; k < g.n_inner; ++k) {
          const uint64_t of_w = g.is_w_transposed ? j * g.w.stride + k : k * g.w.stride + j;
          sum += double{bf16_to_f32(a[b * g.a.batch_stride + i * g.a.stride + k])} *
                 bf16_to_f32(w[b * g.w.batch_stride + of_w]);
        }
        float& to = expected[b * g.c.batch_stride + i * g.c.stride + j];
        to = static_cast<float>(g.adds ? sum + double{to} : sum);
      }
    }
  }
  g.a.data = a.data();
  g.w.data = w.data();
  g.c.data = c.data();
  reference_blas(to_blas(g));
  size_t n_wrong = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    const bool both_untouched = std::isnan(c[i]) && std::isnan(expected[i]);
    n_wrong += !both_untouched && c[i] != expected[i];
  }
  CHECK(n_wrong == 0);
}

}  // namespace

TEST_CASE("blas: products of row-major matrices, either way, into what is there or not") {
  for (const bool is_transposed : {false, true}) {
    for (const bool adds : {false, true}) {
      RowGemm g{.n_rows = 5, .n_cols = 7, .n_inner = 3};
      g.is_w_transposed = is_transposed;
      g.adds = adds;
      g.a.stride = 3;
      g.w.stride = is_transposed ? 3 : 7;
      g.c.stride = 7;
      check(g);
      // Rows with gaps.
      g.a.stride = 8;
      g.w.stride = 9;
      g.c.stride = 11;
      check(g);
      // A batch, of matrices behind each other and of heads side by side in the same rows.
      g.n_batch = 4;
      g.a = {nullptr, 20, 4};
      g.w = {nullptr, 9, 70};
      g.c = {nullptr, 40, 10};
      check(g);
      g.w.batch_stride = 0;  // one for all
      check(g);
    }
  }
}

TEST_CASE("blas: what attention asks for, in the words of cublasGemmStridedBatchedEx") {
  // Scores of 3 heads of 128, 40 tokens, 90 positions.
  const BlasGemm scores = to_blas({.n_rows = 40,
                                   .n_cols = 90,
                                   .n_inner = 128,
                                   .n_batch = 3,
                                   .a = {nullptr, 3 * 192, 192},
                                   .w = {nullptr, 3 * 128, 128},
                                   .is_w_transposed = true,
                                   .c = {nullptr, 128, 40 * 128},
                                   .adds = true});
  CHECK(scores.transposes_a);
  CHECK(!scores.transposes_b);
  CHECK(scores.m == 90);
  CHECK(scores.n == 40);
  CHECK(scores.k == 128);
  CHECK(scores.lda == 3 * 128);
  CHECK(scores.stride_a == 128);
  CHECK(scores.ldb == 3 * 192);
  CHECK(scores.stride_b == 192);
  CHECK(scores.ldc == 128);
  CHECK(scores.stride_c == 40 * 128);
  CHECK(scores.alpha == 1);
  CHECK(scores.beta == 1);
  CHECK(scores.n_batch == 3);
}

TEST_CASE("blas: what BLAS has no words for is our mistake") {
  RowGemm g{.n_rows = 5, .n_cols = 7, .n_inner = 3};
  g.a.stride = g.w.stride = g.c.stride = 8;
  CHECK(error_of([&] { to_blas(g); }).empty());
  g.c.stride = 6;
  CHECK(!error_of([&] { to_blas(g); }).empty());
  g.c.stride = uint64_t{1} << 31;
  CHECK(!error_of([&] { to_blas(g); }).empty());
}
