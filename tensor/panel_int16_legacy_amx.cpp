#include "tensor/panel_int16-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

Int16Kernels int16_kernels_legacy(DType type) {
  if (type == DType::f16) {
    return {internal::row_scales<DType::f16>, internal::int16_product<DType::f16>};
  }
  return internal::int16_kernels_of(internal::LegacyTypes{}, type);
}

}  // namespace hybrid
