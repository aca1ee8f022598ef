#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_k-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_k<SimdLevel::avx2>(DType type) {
  return internal::int8_kernels<SimdLevel::avx2>(internal::KTypes{}, type);
}

}  // namespace hybrid
