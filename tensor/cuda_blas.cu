// The table of cuda_blas.h. Types come from cublas_v2.h, functions from the library that is opened.

#include "tensor/cuda_blas.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <string>
#include <type_traits>

namespace hybrid {
namespace {

constexpr const char* kLibraries[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};

// The header overloads it for C++; this is the one that the library has.
using GemmStridedBatchedEx = cublasStatus_t (*)(
    cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k, const void* alpha,
    const void* a, cudaDataType, int lda, long long stride_a, const void* b, cudaDataType, int ldb,
    long long stride_b, const void* beta, void* c, cudaDataType, int ldc, long long stride_c,
    int n_batch, cublasComputeType_t, cublasGemmAlgo_t);
static_assert(std::is_same_v<GemmStridedBatchedEx, decltype(static_cast<GemmStridedBatchedEx>(
                                                       &::cublasGemmStridedBatchedEx))>);

#define HYBRID_FUNCTION(name) decltype(&::name) name = nullptr
struct Library {
  HYBRID_FUNCTION(cublasCreate_v2);
  HYBRID_FUNCTION(cublasDestroy_v2);
  HYBRID_FUNCTION(cublasSetStream_v2);
  HYBRID_FUNCTION(cublasSetWorkspace_v2);
  HYBRID_FUNCTION(cublasSetMathMode);
  GemmStridedBatchedEx cublasGemmStridedBatchedEx = nullptr;
  std::string why_missing = {};

  Library() {
    void* library = nullptr;
    for (const char* name : kLibraries) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
      const char* text = dlerror();
      if (why_missing.empty()) why_missing = text == nullptr ? name : text;
    }
    if (library == nullptr) return;
    why_missing.clear();
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr && why_missing.empty()) {
        why_missing = std::string("the library that is there has no ") + name;
      }
    };
    load(cublasCreate_v2, "cublasCreate_v2");
    load(cublasDestroy_v2, "cublasDestroy_v2");
    load(cublasSetStream_v2, "cublasSetStream_v2");
    load(cublasSetWorkspace_v2, "cublasSetWorkspace_v2");
    load(cublasSetMathMode, "cublasSetMathMode");
    load(cublasGemmStridedBatchedEx, "cublasGemmStridedBatchedEx");
  }
};
#undef HYBRID_FUNCTION

/// Never closed, as the plugin itself.
const Library& library() {
  static const Library* const opened = new Library;
  return *opened;
}

CudaStatus cuda_status(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return cudaSuccess;
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return cudaErrorInitializationError;
    case CUBLAS_STATUS_ALLOC_FAILED:
      return cudaErrorMemoryAllocation;
    case CUBLAS_STATUS_INVALID_VALUE:
      return cudaErrorInvalidValue;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return cudaErrorNotSupported;
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return cudaErrorLaunchFailure;
    default:
      return cudaErrorUnknown;
  }
}

cublasHandle_t handle_of(CudaBlas* blas) { return reinterpret_cast<cublasHandle_t>(blas); }
cublasOperation_t operation(bool transposes) { return transposes ? CUBLAS_OP_T : CUBLAS_OP_N; }

const char* why_missing() {
  const std::string& reason = library().why_missing;
  return reason.empty() ? nullptr : reason.c_str();
}

CudaStatus open(CudaStream stream, void* workspace, uint64_t workspace_bytes, CudaBlas** blas) {
  cublasHandle_t handle = nullptr;
  cublasStatus_t status = library().cublasCreate_v2(&handle);
  if (status != CUBLAS_STATUS_SUCCESS) return cuda_status(status);
  // The workspace last: a new stream takes it away.
  status = library().cublasSetStream_v2(handle, stream);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = library().cublasSetWorkspace_v2(handle, workspace, workspace_bytes);
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    constexpr auto kMode = static_cast<cublasMath_t>(
        CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    status = library().cublasSetMathMode(handle, kMode);
  }
  if (status != CUBLAS_STATUS_SUCCESS) {
    library().cublasDestroy_v2(handle);
    return cuda_status(status);
  }
  *blas = reinterpret_cast<CudaBlas*>(handle);
  return cudaSuccess;
}

void close(CudaBlas* blas) { library().cublasDestroy_v2(handle_of(blas)); }

CudaStatus gemm(CudaBlas* blas, const BlasGemm& g) {
  return cuda_status(library().cublasGemmStridedBatchedEx(
      handle_of(blas), operation(g.transposes_a), operation(g.transposes_b), g.m, g.n, g.k,
      &g.alpha, g.a, CUDA_R_16BF, g.lda, g.stride_a, g.b, CUDA_R_16BF, g.ldb, g.stride_b, &g.beta,
      g.c, CUDA_R_32F, g.ldc, g.stride_c, g.n_batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

constexpr BlasCudaOps kOps{
    .version = BlasCudaOps::kVersion,
    .n_bytes = sizeof(BlasCudaOps),
    .why_missing = why_missing,
    .open = open,
    .close = close,
    .gemm = gemm,
};

}  // namespace
}  // namespace hybrid

extern "C" __attribute__((visibility("default"))) const hybrid::BlasCudaOps*
hybrid_blas_cuda_ops() {
  return &hybrid::kOps;
}
