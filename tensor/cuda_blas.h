#pragma once
// cuBLAS as the CUDA plugin has it (cuda_plugin.h). Nothing links it: the plugin opens the library
// when it is asked for, because it takes 150 MB of memory and 75 ms, and nearly no run uses it.

#include <cstdint>

#include "tensor/blas_gemm.h"
#include "tensor/cuda_stream.h"

namespace hybrid {

/// cublasHandle_t
struct CudaBlas;

/// What products may use beside their operands: NVIDIA's advice for compute capability 9.0 and
/// later, more than enough before.
inline constexpr uint64_t kCudaBlasWorkspaceBytes = uint64_t{32} << 20;

/// A handle keeps some memory of the GPU to itself that nobody can plan (the margin is for such).
/// It serves one stream and is used by one thread at a time. Given the same GPU, library and
/// arguments, products give the same bits: the workspace is fixed, and no atomics are used.
struct BlasCudaOps {
  static constexpr uint32_t kVersion = 1;
  static constexpr const char* kSymbol = "hybrid_blas_cuda_ops";

  uint32_t version;
  uint32_t n_bytes;  // of this struct

  /// Opens the library at the first call: libcublas.so.13, .12 or without a number, whichever is
  /// found first. Null where it is there, otherwise why it is not: "libcublas.so.13: cannot open
  /// shared object file: ...". Any thread.
  const char* (*why_missing)();

  /// Makes a handle for the current GPU and `stream`. workspace: device memory, 256-byte aligned,
  /// for the handle alone. Only where why_missing() is null. *blas is written where this returns 0.
  CudaStatus (*open)(CudaStream stream, void* workspace, uint64_t workspace_bytes, CudaBlas** blas);

  /// What is queued in the stream must be done.
  void (*close)(CudaBlas* blas);

  /// Queues products of bf16 with float sums (CUBLAS_COMPUTE_32F), also between parts of one sum.
  /// cuBLAS's own statuses become the nearest cudaError_t.
  CudaStatus (*gemm)(CudaBlas* blas, const BlasGemm& args);
};

}  // namespace hybrid
