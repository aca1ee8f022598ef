#pragma once
// The launch functions of this layer as the CUDA plugin has them (cuda_plugin.h): what each does is
// said where it is declared. Experts and attention have a table of their own.

#include <cstdint>

#include "tensor/activation_blocks_cuda.h"
#include "tensor/panel_gemm_cuda.h"
#include "tensor/panel_gemv_cuda.h"
#include "tensor/panel_rows_cuda.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// Any thread may call; where there is no driver, a launch returns the error that says so. kVersion
/// goes up with each change of a function or of what it takes.
struct TensorCudaOps {
  static constexpr uint32_t kVersion = 1;
  static constexpr const char* kSymbol = "hybrid_tensor_cuda_ops";

  uint32_t version;
  uint32_t n_bytes;  // of this struct

  decltype(&rms_norm_cuda) rms_norm;
  decltype(&fill_rope_table_cuda) fill_rope_table;
  decltype(&rotate_pairs_cuda) rotate_pairs;
  decltype(&silu_mul_cuda) silu_mul;
  decltype(&add_rows_cuda) add_rows;
  decltype(&to_bf16_cuda) to_bf16;
  decltype(&quantize_rows_cuda) quantize_rows;
  decltype(&silu_mul_quantize_cuda) silu_mul_quantize;
  decltype(&panel_rows_cuda) panel_rows;
  decltype(&panel_gemv_cuda) panel_gemv;
  decltype(&panel_gemm_cuda) panel_gemm;
};

}  // namespace hybrid
