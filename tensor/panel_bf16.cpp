#include "tensor/panel_bf16.h"

namespace hybrid {

Bf16ProductFn bf16_product(DType type) {
#if defined(__x86_64__)
  if (const Bf16ProductFn f = bf16_product_legacy(type)) return f;
  if (const Bf16ProductFn f = bf16_product_k(type)) return f;
  return bf16_product_iq(type);
#else
  static_cast<void>(type);
  return nullptr;
#endif
}

}  // namespace hybrid
