#include "tensor/cuda_ops.h"

namespace hybrid {
namespace {

constexpr TensorCudaOps kOps{
    .version = TensorCudaOps::kVersion,
    .n_bytes = sizeof(TensorCudaOps),
    .rms_norm = rms_norm_cuda,
    .fill_rope_table = fill_rope_table_cuda,
    .rotate_pairs = rotate_pairs_cuda,
    .silu_mul = silu_mul_cuda,
    .add_rows = add_rows_cuda,
    .to_bf16 = to_bf16_cuda,
    .quantize_rows = quantize_rows_cuda,
    .silu_mul_quantize = silu_mul_quantize_cuda,
    .panel_rows = panel_rows_cuda,
    .panel_gemv = panel_gemv_cuda,
    .panel_gemm = panel_gemm_cuda,
};

}  // namespace
}  // namespace hybrid

extern "C" __attribute__((visibility("default"))) const hybrid::TensorCudaOps*
hybrid_tensor_cuda_ops() {
  return &hybrid::kOps;
}
