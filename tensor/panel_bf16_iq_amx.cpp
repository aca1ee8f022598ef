#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_iq-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_iq(DType type) {
  switch (type) {
    case DType::iq1_s:
      return internal::product<DType::iq1_s, false>;
    case DType::iq1_m:
      return internal::product<DType::iq1_m, false>;
    case DType::iq2_xxs:
      return internal::product<DType::iq2_xxs, false>;
    case DType::iq2_xs:
      return internal::product<DType::iq2_xs, false>;
    case DType::iq2_s:
      return internal::product<DType::iq2_s, false>;
    case DType::iq3_xxs:
      return internal::product<DType::iq3_xxs, false>;
    case DType::iq3_s:
      return internal::product<DType::iq3_s, false>;
    default:
      return nullptr;
  }
}

}  // namespace hybrid
