#include "tensor/panel_gemm_cuda.cuh"
#include "tensor/panel_reader_k_cuda.cuh"

namespace hybrid::cuda {

bool panel_gemm_k(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status) {
  return launch_panel_gemm_of<DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k,
                              DType::iq4_xs>(args, stream, status);
}

}  // namespace hybrid::cuda
