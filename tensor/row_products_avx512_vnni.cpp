#include "tensor/row_products-inl.h"

namespace hybrid {

template <>
RowProducts row_products_at<SimdLevel::avx512_vnni>() {
  return internal::row_products<SimdLevel::avx512_vnni>();
}

}  // namespace hybrid
