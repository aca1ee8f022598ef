#include "tensor/row_ops.h"

namespace hybrid {

RowOps row_ops() {
  return with_simd_level([]<SimdLevel L>() { return row_ops_at<L>(); });
}

}  // namespace hybrid
