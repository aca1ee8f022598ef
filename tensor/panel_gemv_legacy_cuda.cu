#include "tensor/panel_gemv_cuda.cuh"

namespace hybrid::cuda {

bool panel_gemv_legacy(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status) {
  return launch_panel_gemv_of<DType::f32, DType::f16, DType::bf16, DType::q4_0, DType::q4_1,
                              DType::q5_0, DType::q5_1, DType::q8_0, DType::iq4_nl, DType::mxfp4>(
      args, stream, status);
}

}  // namespace hybrid::cuda
