#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_legacy<SimdLevel::avx2>(DType type) {
  return internal::int8_kernels<SimdLevel::avx2>(internal::LegacyTypes{}, type);
}

}  // namespace hybrid
