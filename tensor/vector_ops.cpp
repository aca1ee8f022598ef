#include "tensor/vector_ops.h"

#include "tensor/dot_tile-inl.h"

namespace hybrid {

float dot_f32(const float* a, const float* b, uint64_t n) {
  float sum;
  internal::dot_tile<1, 1>({a, n}, {b, n}, n, &sum, 1);
  return sum;
}

void axpy_f32(float alpha, const float* __restrict x, float* __restrict y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
}

}  // namespace hybrid
