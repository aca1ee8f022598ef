#pragma once
// A matrix product whose output rows are shared out over the workers.

#include "tensor/matmul_input.h"
#include "tensor/weight.h"

namespace hybrid {

/// y[t][r] = sum_c w[r][c] * x[t][c] for a single matrix; y without gaps between its rows. The
/// kernel is chosen by level, type and number of tokens (input_form); the result does not depend on
/// the workers.
void matmul(const Weight& w, MatmulInput& input, float* y, Workers& workers);

}  // namespace hybrid
