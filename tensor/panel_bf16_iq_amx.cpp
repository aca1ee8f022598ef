#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_iq-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_iq(DType type) {
  return internal::product_of(internal::IqTypes{}, type);
}

}  // namespace hybrid
