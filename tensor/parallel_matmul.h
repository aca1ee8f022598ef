#pragma once
// A matrix product whose output rows are shared out over the workers.

#include "numa/workers.h"
#include "tensor/matmul.h"

namespace hybrid {

/// y[t][r] = sum_c weight[r][c] * x[t][c]; x and y without gaps between their rows.
void matmul(const TensorView& weight, const float* x, float* y, uint64_t n_tokens,
            Workers& workers);

}  // namespace hybrid
