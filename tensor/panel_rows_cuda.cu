#include "tensor/panel_rows_cuda.h"

#include "tensor/panel_rows_cuda.cuh"

namespace hybrid {
namespace {

/// Launches the kernel of the matrix's type.
template <DType... types>
CudaStatus launch_of(const DevicePanels& w, const int32_t* ids, uint32_t n_ids, DeviceRows<float> y,
                     CudaStream stream) {
  CudaStatus status = 1;
  static_cast<void>(((w.type == types &&
                      (status = cuda::launch_panel_rows<types>(w, ids, n_ids, y, stream), true)) ||
                     ...));
  return status;
}

}  // namespace

CudaStatus panel_rows_cuda(const DevicePanels& w, const int32_t* ids, uint32_t n_ids,
                           DeviceRows<float> y, CudaStream stream) {
  return launch_of<DType::f32, DType::f16, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0,
                   DType::q5_1, DType::q8_0, DType::iq4_nl, DType::mxfp4, DType::q2_k, DType::q3_k,
                   DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs, DType::iq1_s, DType::iq1_m,
                   DType::iq2_xxs, DType::iq2_xs, DType::iq2_s, DType::iq3_xxs, DType::iq3_s>(
      w, ids, n_ids, y, stream);
}

}  // namespace hybrid
