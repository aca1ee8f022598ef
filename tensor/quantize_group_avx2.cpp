#include "tensor/quantize_group-inl.h"

namespace hybrid {

template <>
QuantizeGroupFn quantize_group_at<SimdLevel::avx2>() {
  return internal::quantize_group;
}

}  // namespace hybrid
