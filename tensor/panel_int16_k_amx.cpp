#include "tensor/panel_int16-inl.h"
#include "tensor/panel_reader_k-inl.h"

namespace hybrid {

Int16Kernels int16_kernels_k(DType type) {
  return internal::int16_kernels_of(internal::KTypes{}, type);
}

}  // namespace hybrid
