// A CUDA plugin whose runtime's table is as it should be, and whose launch functions are of another
// version, or not there at all.

#include "tensor/cuda_api.h"
#include "tensor/cuda_ops.h"

extern "C" const hybrid::CudaApi* hybrid_cuda_api() {
  static const hybrid::CudaApi kApi{.version = hybrid::kCudaApiVersion,
                                    .n_bytes = sizeof(hybrid::CudaApi)};
  return &kApi;
}

extern "C" const hybrid::TensorCudaOps* hybrid_tensor_cuda_ops() {
  static const hybrid::TensorCudaOps kOps{.version = hybrid::TensorCudaOps::kVersion + 1,
                                          .n_bytes = sizeof(hybrid::TensorCudaOps)};
  return &kOps;
}
