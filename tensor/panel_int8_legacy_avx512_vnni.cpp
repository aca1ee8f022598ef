#include "tensor/panel_int8-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

template <>
Int8Kernels int8_kernels_legacy<SimdLevel::avx512_vnni>(DType type) {
  constexpr SimdLevel L = SimdLevel::avx512_vnni;
  switch (type) {
    case DType::q4_0:
      return internal::int8_kernels<L, DType::q4_0>();
    case DType::q4_1:
      return internal::int8_kernels<L, DType::q4_1>();
    case DType::q5_0:
      return internal::int8_kernels<L, DType::q5_0>();
    case DType::q5_1:
      return internal::int8_kernels<L, DType::q5_1>();
    case DType::q8_0:
      return internal::int8_kernels<L, DType::q8_0>();
    case DType::iq4_nl:
      return internal::int8_kernels<L, DType::iq4_nl>();
    case DType::mxfp4:
      return internal::int8_kernels<L, DType::mxfp4>();
    default:
      return {};
  }
}

}  // namespace hybrid
