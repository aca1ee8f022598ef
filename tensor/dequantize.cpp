#include "tensor/dequantize.h"

#include "base/error.h"

namespace hybrid {

DequantizeFn dequantize_fn(DType type) {
  const DequantizeFn decoder =
      with_simd_level([&]<SimdLevel L>() { return dequantize_fn_at<L>(type); });
  HYBRID_CHECK(decoder != nullptr);
  return decoder;
}

}  // namespace hybrid
