#include "tensor/row_products-inl.h"

namespace hybrid {

template <>
RowProducts row_products_at<SimdLevel::scalar>() {
  return internal::row_products<SimdLevel::scalar>();
}

}  // namespace hybrid
