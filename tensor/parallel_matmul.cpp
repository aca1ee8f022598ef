#include "tensor/parallel_matmul.h"

namespace hybrid {

void matmul(const TensorView& weight, const float* x, float* y, uint64_t n_tokens,
            Workers& workers) {
  constexpr uint64_t kRowsPerTask = 64;
  const MatmulArgs args{weight, x, weight.n_cols(), y, weight.n_rows(), n_tokens};
  workers.parallel_for(weight.n_rows(), kRowsPerTask,
                       [&](uint64_t begin, uint64_t end) { matmul_rows(args, begin, end); });
}

}  // namespace hybrid
