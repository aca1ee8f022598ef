#include "tensor/panel_int16.h"

namespace hybrid {

Int16Kernels int16_kernels(DType type) {
#if defined(__x86_64__)
  if (const Int16Kernels k = int16_kernels_legacy(type); k.product) return k;
  return int16_kernels_k(type);
#else
  static_cast<void>(type);
  return {};
#endif
}

}  // namespace hybrid
