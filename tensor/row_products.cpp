#include "tensor/row_products.h"

namespace hybrid {

RowProducts row_products() {
  return with_simd_level([]<SimdLevel L>() { return row_products_at<L>(); });
}

}  // namespace hybrid
