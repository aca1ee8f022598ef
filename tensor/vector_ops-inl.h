#pragma once
// Bodies of VectorOps at every level, compiled by vector_ops_<level>.cpp.

#include "tensor/dot_tile-inl.h"
#include "tensor/vector_ops.h"

namespace hybrid::internal {
namespace {

template <SimdLevel L>
float dot(const float* a, const float* b, uint64_t n) {
  float sum;
  dot_tile<L, 1, 1>({a, n}, {b, n}, n, &sum, 1);
  return sum;
}

template <SimdLevel L>
void axpy(float alpha, const float* __restrict x, float* __restrict y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
}

}  // namespace
}  // namespace hybrid::internal
