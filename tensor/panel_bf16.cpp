#include "tensor/panel_bf16.h"

#include "numa/huge_buffer.h"

namespace hybrid {

std::byte* panel_scratch(uint64_t n_bytes) {
  thread_local HugeBuffer buffer;
  if (buffer.n_bytes() < n_bytes) buffer = HugeBuffer(n_bytes);
  return buffer.data();
}

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
