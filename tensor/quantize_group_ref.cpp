#include "tensor/quantize_group-inl.h"

namespace hybrid {

template <>
QuantizeGroup quantize_group_at<SimdLevel::scalar>() {
  return {internal::group_to_bytes, internal::block_to_words};
}

}  // namespace hybrid
