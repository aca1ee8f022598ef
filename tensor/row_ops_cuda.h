#pragma once
// rms_norm.h, rope.h and row_ops.h on a device: rows of floats in its memory, one launch a call.
//
// Sums are floats, in an order that depends on the row's length alone; a row's result does not
// depend on the others of the call.

#include <cstdint>

#include "base/half.h"
#include "tensor/cuda_stream.h"

namespace hybrid {

/// Rows of floats: element i of row r is data[r * stride + i].
template <class T>
struct DeviceRows {
  T* data = nullptr;
  uint64_t stride = 0;  // elements
};

/// Which rows of a call are there; all of them, unless it says otherwise. What the others hold is
/// not looked at.
struct RowFilter {
  const int32_t* ids = nullptr;  // with `local`: row r is there where local[ids[r]] >= 0
  const int32_t* local = nullptr;
  const uint32_t* n_rows = nullptr;  // on the device: the rows below it are there
};

/// y = x / sqrt(mean(x^2) + epsilon) * weight, rows of n; y may be x. weight: [n].
CudaStatus rms_norm_cuda(DeviceRows<const float> x, const float* weight, uint32_t n,
                         uint32_t n_rows, float epsilon, DeviceRows<float> y, CudaStream stream);

/// The (cos, sin) of each pair, interleaved, of each token's position. frequencies: [n_dims / 2],
/// see rope_frequencies(); positions: [n_tokens]; table: [n_tokens][n_dims]. Angles are doubles.
CudaStatus fill_rope_table_cuda(const double* frequencies, uint32_t n_dims,
                                const int32_t* positions, uint32_t n_tokens, float* table,
                                CudaStream stream);

/// Rotates n_heads vectors of n_dims in each token's row: adjacent pairs, in place. Head h of a row
/// begins at h * head_stride. table: [n_tokens][n_dims].
CudaStatus rotate_pairs_cuda(DeviceRows<float> x, uint32_t n_heads, uint64_t head_stride,
                             const float* table, uint32_t n_dims, uint32_t n_tokens,
                             CudaStream stream);

/// gate = silu(gate) * up, rows of n. to_bf16 unless null: rounded there instead, rows of
/// to_bf16.stride, what lies behind the n-th element set to zero.
CudaStatus silu_mul_cuda(DeviceRows<float> gate, DeviceRows<const float> up, uint32_t n,
                         uint32_t n_rows, DeviceRows<bf16_t> to_bf16, const RowFilter& filter,
                         CudaStream stream);

/// y += x, rows of n.
CudaStatus add_rows_cuda(DeviceRows<const float> x, DeviceRows<float> y, uint32_t n,
                         uint32_t n_rows, CudaStream stream);

/// y = x as bf16, rows of n; the rest of a row of y, to its stride, becomes zero.
CudaStatus to_bf16_cuda(DeviceRows<const float> x, uint32_t n, uint32_t n_rows,
                        DeviceRows<bf16_t> y, CudaStream stream);

}  // namespace hybrid
