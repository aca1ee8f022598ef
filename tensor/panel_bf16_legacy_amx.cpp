#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_legacy(DType type) {
  if (type == DType::f16) return internal::product<DType::f16, true>;
  if (type == DType::bf16) return internal::product<DType::bf16, false>;  // it has no second part
  return internal::product_of<true>(internal::LegacyTypes{}, type);
}

}  // namespace hybrid
