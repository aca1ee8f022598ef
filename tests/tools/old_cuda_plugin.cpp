// A CUDA plugin of another version, to be refused.

#include "tensor/cuda_api.h"

extern "C" const hybrid::CudaApi* hybrid_cuda_api() {
  static const hybrid::CudaApi kApi{.version = hybrid::kCudaApiVersion + 1,
                                    .n_bytes = sizeof(hybrid::CudaApi)};
  return &kApi;
}
