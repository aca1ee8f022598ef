#include "tensor/panel_gemv_cuda.cuh"
#include "tensor/panel_reader_k_cuda.cuh"

namespace hybrid::cuda {

bool panel_gemv_k(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status) {
  return launch_panel_gemv_of<DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k,
                              DType::iq4_xs>(args, stream, status);
}

}  // namespace hybrid::cuda
