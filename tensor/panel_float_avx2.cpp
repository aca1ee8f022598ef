#include "tensor/panel_float-inl.h"

namespace hybrid {

template <>
FloatProductFn float_product_at<SimdLevel::avx2>(DType type) {
  return internal::float_product_of<SimdLevel::avx2>(type);
}

}  // namespace hybrid
