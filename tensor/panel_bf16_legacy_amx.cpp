#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_legacy-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_legacy(DType type) {
  if (type == DType::f16) return internal::product<DType::f16>;
  if (type == DType::bf16) return internal::product<DType::bf16>;
  return internal::product_of(internal::LegacyTypes{}, type);
}

}  // namespace hybrid
