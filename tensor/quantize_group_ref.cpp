#include "tensor/quantize_group-inl.h"

namespace hybrid {

template <>
QuantizeGroupFn quantize_group_at<SimdLevel::scalar>() {
  return internal::quantize_group;
}

}  // namespace hybrid
