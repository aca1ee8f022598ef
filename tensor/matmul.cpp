#include "tensor/matmul.h"

#include "base/error.h"
#include "tensor/aligned_floats.h"

namespace hybrid {
namespace {

/// Grows and is never given back: a thread meets the same few row lengths over and over.
float* thread_row_buffer(uint64_t n_floats) {
  thread_local AlignedFloats buffer;
  return buffer.reserve(n_floats);
}

}  // namespace

uint64_t matmul_thread_bytes(uint64_t n_cols) { return kMatmulRowGroup * n_cols * sizeof(float); }

void matmul_rows(const MatmulArgs& args, uint64_t row_begin, uint64_t row_end) {
  const TensorView& weight = args.weight;
  HYBRID_CHECK(weight.ne[2] == 1 && weight.ne[3] == 1);
  HYBRID_CHECK(weight.n_cols() > 0 && weight.n_cols() % info_of(weight.type).block_size == 0);
  HYBRID_CHECK(weight.data.size() >= weight.n_rows() * weight.row_bytes());
  HYBRID_CHECK(row_begin <= row_end && row_end <= weight.n_rows());
  if (args.n_tokens == 0 || row_begin == row_end) return;
  HYBRID_CHECK(args.x != nullptr && args.y != nullptr);
  HYBRID_CHECK(args.n_tokens == 1 || args.x_stride >= weight.n_cols());
  HYBRID_CHECK(args.n_tokens == 1 || args.y_stride >= weight.n_rows());
  float* row_buffer = thread_row_buffer(kMatmulRowGroup * weight.n_cols());
  with_simd_level([&]<SimdLevel L>() { matmul_rows_at<L>(args, row_begin, row_end, row_buffer); });
}

}  // namespace hybrid
