#include "tensor/blas_gemm.h"

#include <limits>

#include "base/error.h"

namespace hybrid {
namespace {

int32_t narrow(uint64_t n) {
  HYBRID_CHECK(n <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max()));
  return static_cast<int32_t>(n);
}

}  // namespace

BlasGemm to_blas(const RowGemm& g) {
  const uint32_t w_cols = g.is_w_transposed ? g.n_inner : g.n_cols;
  HYBRID_CHECK(g.n_rows > 0 && g.n_cols > 0 && g.n_inner > 0 && g.n_batch > 0);
  HYBRID_CHECK(g.a.stride >= g.n_inner && g.w.stride >= w_cols && g.c.stride >= g.n_cols);
  BlasGemm blas;
  blas.m = narrow(g.n_cols);
  blas.n = narrow(g.n_rows);
  blas.k = narrow(g.n_inner);
  // As a column-major matrix w is n_cols x n_inner, and n_inner x n_cols where it is transposed.
  blas.transposes_a = g.is_w_transposed;
  blas.a = g.w.data;
  blas.lda = narrow(g.w.stride);
  blas.stride_a = static_cast<int64_t>(g.w.batch_stride);
  blas.b = g.a.data;
  blas.ldb = narrow(g.a.stride);
  blas.stride_b = static_cast<int64_t>(g.a.batch_stride);
  blas.beta = g.adds ? 1.0f : 0.0f;
  blas.c = g.c.data;
  blas.ldc = narrow(g.c.stride);
  blas.stride_c = static_cast<int64_t>(g.c.batch_stride);
  blas.n_batch = narrow(g.n_batch);
  return blas;
}

}  // namespace hybrid
