#include "tensor/quantize_group-inl.h"

namespace hybrid {

template <>
QuantizeGroupFn quantize_group_at<SimdLevel::avx512_vnni>() {
  return internal::quantize_group;
}

}  // namespace hybrid
