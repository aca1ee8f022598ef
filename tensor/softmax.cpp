#include "tensor/softmax.h"

#include "tensor/row_ops.h"

namespace hybrid {

void softmax(float* x, uint64_t n) {
  const RowOps ops = row_ops();
  const double sum = ops.exp_sum(x, n, ops.max(x, n));
  ops.scale(x, static_cast<float>(1.0 / sum), n);
}

void silu_mul(float* gate, const float* up, uint64_t n) { row_ops().silu_mul(gate, up, n); }

}  // namespace hybrid
