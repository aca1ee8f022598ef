#pragma once
// The softmax of scores in memory (K*Q) on a device:
//
//   weight_p = exp(kq_scale * score_p - max) / sum     p <= first_position + t, otherwise 0
//
// A row is read three times and nothing of it is kept between: rows may be longer than any memory
// of a block. Scores and sums are floats, added in an order that depends on the number of positions
// a token sees alone; weights are rounded to bf16. A row's result does not depend on other rows.

#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// Rows begin at multiples of so many elements, so that matrices of scores, of weights and of bf16
/// rows beside them all begin at multiples of 256 bytes.
inline constexpr uint32_t kScoreAlignment = 128;

struct ScoreSoftmaxArgs {
  uint32_t n_heads = 0, n_tokens = 0;
  uint32_t first_position = 0;  // of token 0
  float kq_scale = 0;
  uint64_t stride = 0;            // of rows of both; at least first_position + n_tokens, even
  const float* scores = nullptr;  // [n_heads][n_tokens] rows; what no token sees is not read
  bf16_t* weights = nullptr;      // [n_heads][n_tokens] rows, written to their stride
};
CudaStatus score_softmax_cuda(const ScoreSoftmaxArgs& args, CudaStream stream);

}  // namespace hybrid
