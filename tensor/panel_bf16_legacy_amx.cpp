#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_legacy(DType type) {
  switch (type) {
    case DType::f16:
      return internal::product<DType::f16, true>;
    case DType::bf16:
      return internal::product<DType::bf16, false>;
    case DType::q4_0:
      return internal::product<DType::q4_0, true>;
    case DType::q4_1:
      return internal::product<DType::q4_1, true>;
    case DType::q5_0:
      return internal::product<DType::q5_0, true>;
    case DType::q5_1:
      return internal::product<DType::q5_1, true>;
    case DType::q8_0:
      return internal::product<DType::q8_0, true>;
    case DType::iq4_nl:
      return internal::product<DType::iq4_nl, true>;
    case DType::mxfp4:
      return internal::product<DType::mxfp4, true>;
    default:
      return nullptr;
  }
}

}  // namespace hybrid
