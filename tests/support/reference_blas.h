#pragma once
// cublasGemmStridedBatchedEx as BLAS defines it, over the arguments as they are: column-major
// matrices, leading dimensions, operations, strides. Plain loops, sums in double.

#include <cstdint>

#include "base/half.h"
#include "tensor/blas_gemm.h"

namespace hybrid::test {

/// Where element (row, column) of a column-major matrix is.
inline int64_t blas_at(int64_t row, int64_t column, int32_t ld) { return column * ld + row; }

/// C_i = alpha * op(A_i) * op(B_i) + beta * C_i. With beta 0, C is not read.
inline void reference_blas(const BlasGemm& g) {
  for (int64_t i = 0; i < g.n_batch; ++i) {
    const bf16_t* const a = g.a + i * g.stride_a;
    const bf16_t* const b = g.b + i * g.stride_b;
    float* const c = g.c + i * g.stride_c;
    for (int64_t row = 0; row < g.m; ++row) {
      for (int64_t column = 0; column < g.n; ++column) {
        double sum = 0;
        for (int64_t k = 0; k < g.k; ++k) {
          const int64_t of_a = g.transposes_a ? blas_at(k, row, g.lda) : blas_at(row, k, g.lda);
          const int64_t of_b =
              g.transposes_b ? blas_at(column, k, g.ldb) : blas_at(k, column, g.ldb);
          sum += double{bf16_to_f32(a[of_a])} * bf16_to_f32(b[of_b]);
        }
        float& to = c[blas_at(row, column, g.ldc)];
        const double before = g.beta == 0 ? 0.0 : double{g.beta} * to;
        to = static_cast<float>(g.alpha * sum + before);
      }
    }
  }
}

}  // namespace hybrid::test
