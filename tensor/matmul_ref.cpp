#include "tensor/matmul-inl.h"

namespace hybrid {

template <>
void matmul_rows_at<SimdLevel::scalar>(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end,
                                       float* row_buffer) {
  internal::matmul_rows_body<SimdLevel::scalar>(args, row_begin, row_end, row_buffer);
}

}  // namespace hybrid
