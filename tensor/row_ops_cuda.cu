#include "tensor/row_ops_cuda.h"

#include "tensor/row_ops_cuda.cuh"

namespace hybrid {

using namespace cuda;

namespace {

uint32_t blocks_for(uint64_t n) {
  return static_cast<uint32_t>((n + kRowThreads - 1) / kRowThreads);
}

}  // namespace

CudaStatus rms_norm_cuda(DeviceRows<const float> x, const float* weight, uint32_t n,
                         uint32_t n_rows, float epsilon, DeviceRows<float> y, CudaStream stream) {
  return launch(rms_norm_kernel, Grid(n_rows), Grid(kRowThreads), 0, stream, x.data, x.stride,
                weight, n, epsilon, y.data, y.stride);
}

CudaStatus fill_rope_table_cuda(const double* frequencies, uint32_t n_dims,
                                const int32_t* positions, uint32_t n_tokens, float* table,
                                CudaStream stream) {
  const uint32_t n_pairs = n_dims / 2;
  return launch(rope_table_kernel, Grid(blocks_for(uint64_t{n_pairs} * n_tokens)),
                Grid(kRowThreads), 0, stream, frequencies, n_pairs, positions, n_tokens, table);
}

CudaStatus rotate_pairs_cuda(DeviceRows<float> x, uint32_t n_heads, uint64_t head_stride,
                             const float* table, uint32_t n_dims, uint32_t n_tokens,
                             CudaStream stream) {
  return launch(rotate_pairs_kernel, Grid(n_tokens, blocks_for(uint64_t{n_dims} / 2 * n_heads)),
                Grid(kRowThreads), 0, stream, x.data, x.stride, n_heads, head_stride, table,
                n_dims);
}

CudaStatus silu_mul_cuda(DeviceRows<float> gate, DeviceRows<const float> up, uint32_t n,
                         uint32_t n_rows, DeviceRows<bf16_t> to_bf16, const RowFilter& filter,
                         CudaStream stream) {
  const bool rounds = to_bf16.data != nullptr;
  return launch(rounds ? silu_mul_kernel<true> : silu_mul_kernel<false>,
                Grid(n_rows, blocks_for(rounds ? to_bf16.stride : n)), Grid(kRowThreads), 0, stream,
                gate.data, gate.stride, up.data, up.stride, n, to_bf16.data, to_bf16.stride,
                filter);
}

CudaStatus add_rows_cuda(DeviceRows<const float> x, DeviceRows<float> y, uint32_t n,
                         uint32_t n_rows, CudaStream stream) {
  return launch(add_rows_kernel, Grid(n_rows, blocks_for(n)), Grid(kRowThreads), 0, stream, x.data,
                x.stride, y.data, y.stride, n);
}

CudaStatus to_bf16_cuda(DeviceRows<const float> x, uint32_t n, uint32_t n_rows,
                        DeviceRows<bf16_t> y, CudaStream stream) {
  return launch(to_bf16_kernel, Grid(n_rows, blocks_for(y.stride)), Grid(kRowThreads), 0, stream,
                x.data, x.stride, n, y.data, y.stride);
}

}  // namespace hybrid
