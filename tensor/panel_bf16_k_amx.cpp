#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_k-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_k(DType type) {
  switch (type) {
    case DType::q2_k:
      return internal::product<DType::q2_k, true>;
    case DType::q3_k:
      return internal::product<DType::q3_k, true>;
    case DType::q4_k:
      return internal::product<DType::q4_k, true>;
    case DType::q5_k:
      return internal::product<DType::q5_k, true>;
    case DType::q6_k:
      return internal::product<DType::q6_k, true>;
    case DType::iq4_xs:
      return internal::product<DType::iq4_xs, true>;
    default:
      return nullptr;
  }
}

}  // namespace hybrid
