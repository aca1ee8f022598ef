#include "tensor/row_ops-inl.h"

namespace hybrid {

template <>
RowOps row_ops_at<SimdLevel::avx512_vnni>() {
  return internal::row_ops<SimdLevel::avx512_vnni>();
}

}  // namespace hybrid
