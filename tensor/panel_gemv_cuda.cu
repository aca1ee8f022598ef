#include "tensor/panel_gemv_cuda.h"

namespace hybrid {

CudaStatus panel_gemv_cuda(const PanelGemvArgs& args, CudaStream stream) {
  CudaStatus status = 1;  // cudaErrorInvalidValue: a type that no family has
  static_cast<void>(cuda::panel_gemv_legacy(args, stream, status) ||
                    cuda::panel_gemv_k(args, stream, status) ||
                    cuda::panel_gemv_iq(args, stream, status));
  return status;
}

}  // namespace hybrid
