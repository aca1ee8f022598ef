#include "tensor/vector_ops.h"

namespace hybrid {

VectorOps vector_ops() {
  return with_simd_level([]<SimdLevel L>() { return vector_ops_at<L>(); });
}

}  // namespace hybrid
