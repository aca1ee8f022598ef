#include "tensor/panel_bf16-inl.h"
#include "tensor/panel_reader_k-inl.h"

namespace hybrid {

Bf16ProductFn bf16_product_k(DType type) { return internal::product_of(internal::KTypes{}, type); }

}  // namespace hybrid
