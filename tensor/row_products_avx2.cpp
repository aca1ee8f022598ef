#include "tensor/row_products-inl.h"

namespace hybrid {

template <>
RowProducts row_products_at<SimdLevel::avx2>() {
  return internal::row_products<SimdLevel::avx2>();
}

}  // namespace hybrid
