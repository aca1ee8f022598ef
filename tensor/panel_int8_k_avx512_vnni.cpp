#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_k-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_k<SimdLevel::avx512_vnni>(DType type) {
  constexpr SimdLevel L = SimdLevel::avx512_vnni;
  switch (type) {
    case DType::q2_k:
      return internal::int8_kernels<L, DType::q2_k>();
    case DType::q3_k:
      return internal::int8_kernels<L, DType::q3_k>();
    case DType::q4_k:
      return internal::int8_kernels<L, DType::q4_k>();
    case DType::q5_k:
      return internal::int8_kernels<L, DType::q5_k>();
    case DType::q6_k:
      return internal::int8_kernels<L, DType::q6_k>();
    case DType::iq4_xs:
      return internal::int8_kernels<L, DType::iq4_xs>();
    default:
      return {};
  }
}

}  // namespace hybrid
