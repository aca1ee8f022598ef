#include "tensor/panel_gemm_cuda.h"

namespace hybrid {

CudaStatus panel_gemm_cuda(const PanelGemmArgs& args, CudaStream stream) {
  CudaStatus status = 1;  // cudaErrorInvalidValue: a type that no family has
  static_cast<void>(cuda::panel_gemm_legacy(args, stream, status) ||
                    cuda::panel_gemm_k(args, stream, status) ||
                    cuda::panel_gemm_iq(args, stream, status));
  return status;
}

}  // namespace hybrid
