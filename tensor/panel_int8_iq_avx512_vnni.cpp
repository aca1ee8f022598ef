#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_iq-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_iq<SimdLevel::avx512_vnni>(DType type) {
  constexpr SimdLevel L = SimdLevel::avx512_vnni;
  switch (type) {
    case DType::iq1_s:
      return internal::int8_kernels<L, DType::iq1_s>();
    case DType::iq1_m:
      return internal::int8_kernels<L, DType::iq1_m>();
    case DType::iq2_xxs:
      return internal::int8_kernels<L, DType::iq2_xxs>();
    case DType::iq2_xs:
      return internal::int8_kernels<L, DType::iq2_xs>();
    case DType::iq2_s:
      return internal::int8_kernels<L, DType::iq2_s>();
    case DType::iq3_xxs:
      return internal::int8_kernels<L, DType::iq3_xxs>();
    case DType::iq3_s:
      return internal::int8_kernels<L, DType::iq3_s>();
    default:
      return {};
  }
}

}  // namespace hybrid
