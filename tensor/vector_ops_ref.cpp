#include "tensor/vector_ops-inl.h"

namespace hybrid {

template <>
VectorOps vector_ops_at<SimdLevel::scalar>() {
  return {internal::dot<SimdLevel::scalar>, internal::axpy<SimdLevel::scalar>};
}

}  // namespace hybrid
