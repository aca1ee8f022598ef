#pragma once
// Products of row-major matrices in the words of BLAS, whose matrices are column-major.
//
//   c[b][i][j] = sum_k a[b][i][k] * w[b][k][j]  (+ c[b][i][j])      i < n_rows, j < n_cols
//
// bf16 operands, float results. A row-major matrix is the transpose of the column-major one in the
// same memory, so what BLAS is asked for is C^T = W^T A^T: the operands change places.

#include <cstdint>

#include "base/half.h"

namespace hybrid {

/// Matrices, one for each product of a batch. Strides are elements.
template <class T>
struct BatchedRows {
  T* data = nullptr;
  uint64_t stride = 0;        // between rows
  uint64_t batch_stride = 0;  // between matrices; 0: the same one for all
};

struct RowGemm {
  uint32_t n_rows = 0, n_cols = 0, n_inner = 0, n_batch = 1;
  BatchedRows<const bf16_t> a = {};  // [n_rows][n_inner]
  BatchedRows<const bf16_t> w = {};  // [n_inner][n_cols]; or, transposed, [n_cols][n_inner]
  bool is_w_transposed = false;
  BatchedRows<float> c = {};  // [n_rows][n_cols]
  bool adds = false;          // to what is there; otherwise c is written only
};

/// The arguments of cublasGemmStridedBatchedEx, in its order:
///   C_i = alpha * op(A_i) * op(B_i) + beta * C_i,  op(A) m x k, op(B) k x n, C m x n
/// A, B and C column-major: element (r, c) of a matrix is data[c * ld + r].
struct BlasGemm {
  bool transposes_a = false, transposes_b = false;
  int32_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const bf16_t* a = nullptr;
  int32_t lda = 0;
  int64_t stride_a = 0;
  const bf16_t* b = nullptr;
  int32_t ldb = 0;
  int64_t stride_b = 0;
  float beta = 0;
  float* c = nullptr;
  int32_t ldc = 0;
  int64_t stride_c = 0;
  int32_t n_batch = 0;
};

/// Rows shorter than their stride says, and numbers that BLAS has no room for (2^31 - 1), are our
/// own mistakes.
BlasGemm to_blas(const RowGemm& gemm);

}  // namespace hybrid
