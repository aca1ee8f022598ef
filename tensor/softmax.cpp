#include "tensor/softmax.h"

#include <algorithm>

namespace hybrid {

void softmax(float* x, uint64_t n) {
  const float max = *std::max_element(x, x + n);
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - max);
    sum += x[i];
  }
  const auto scale = static_cast<float>(1.0 / sum);
  for (uint64_t i = 0; i < n; ++i) x[i] *= scale;
}

void silu_mul(float* gate, const float* up, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) gate[i] = silu(gate[i]) * up[i];
}

}  // namespace hybrid
