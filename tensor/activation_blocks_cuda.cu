#include "tensor/activation_blocks_cuda.h"

#include "tensor/activation_blocks_cuda.cuh"

namespace hybrid {

using namespace cuda;

CudaStatus quantize_rows_cuda(DeviceRows<const float> x, uint32_t n_cols, uint32_t n_rows,
                              ActivationBlock* to, CudaStream stream) {
  const Grid grid(n_rows, static_cast<uint32_t>(n_activation_blocks(n_cols)));
  return launch(quantize_kernel<false>, grid, Grid(kQuantizeThreads), 0, stream, x.data, x.stride,
                nullptr, uint64_t{0}, n_cols, to, RowFilter{});
}

CudaStatus silu_mul_quantize_cuda(DeviceRows<const float> gate, DeviceRows<const float> up,
                                  uint32_t n_cols, uint32_t n_rows, ActivationBlock* to,
                                  const RowFilter& filter, CudaStream stream) {
  const Grid grid(n_rows, static_cast<uint32_t>(n_activation_blocks(n_cols)));
  return launch(quantize_kernel<true>, grid, Grid(kQuantizeThreads), 0, stream, gate.data,
                gate.stride, up.data, up.stride, n_cols, to, filter);
}

}  // namespace hybrid
