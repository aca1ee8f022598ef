#include "tensor/vector_ops-inl.h"

namespace hybrid {

template <>
VectorOps vector_ops_at<SimdLevel::avx512_vnni>() {
  return {internal::dot<SimdLevel::avx512_vnni>, internal::axpy<SimdLevel::avx512_vnni>};
}

}  // namespace hybrid
