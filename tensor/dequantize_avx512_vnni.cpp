#include "tensor/dequantize_table-inl.h"

namespace hybrid {

template <>
DequantizeFn dequantize_fn_at<SimdLevel::avx512_vnni>(DType type) {
  return internal::decoder_of(type);
}

}  // namespace hybrid
