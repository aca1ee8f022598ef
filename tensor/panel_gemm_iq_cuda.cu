#include "tensor/panel_gemm_cuda.cuh"
#include "tensor/panel_reader_iq_cuda.cuh"

namespace hybrid::cuda {

bool panel_gemm_iq(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status) {
  return launch_panel_gemm_of<DType::iq1_s, DType::iq1_m, DType::iq2_xxs, DType::iq2_xs,
                              DType::iq2_s, DType::iq3_xxs, DType::iq3_s>(args, stream, status);
}

}  // namespace hybrid::cuda
