#include "tensor/panel_float-inl.h"

namespace hybrid {

template <>
FloatProductFn float_product_at<SimdLevel::avx512_vnni>(DType type) {
  return internal::float_product_of<SimdLevel::avx512_vnni>(type);
}

}  // namespace hybrid
