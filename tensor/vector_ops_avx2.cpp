#include "tensor/vector_ops-inl.h"

namespace hybrid {

template <>
VectorOps vector_ops_at<SimdLevel::avx2>() {
  return {internal::dot<SimdLevel::avx2>, internal::axpy<SimdLevel::avx2>};
}

}  // namespace hybrid
