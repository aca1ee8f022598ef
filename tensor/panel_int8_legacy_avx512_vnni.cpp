#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_legacy<SimdLevel::avx512_vnni>(DType type) {
  return internal::int8_kernels<SimdLevel::avx512_vnni>(internal::LegacyTypes{}, type);
}

}  // namespace hybrid
