#include "tensor/row_ops-inl.h"

namespace hybrid {

template <>
RowOps row_ops_at<SimdLevel::avx2>() {
  return internal::row_ops<SimdLevel::avx2>();
}

}  // namespace hybrid
