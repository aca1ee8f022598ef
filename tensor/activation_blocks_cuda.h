#pragma once
// activation_blocks.h on a device: rows of floats as bytes, with what the rounding left.

#include "tensor/activation_blocks.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// Rows of activations in two rounds. Row r: n_activation_blocks(n_cols) blocks of the first round,
/// then as many of what it left; the bits that quantize_row() gives.
inline uint64_t activation_row_blocks(uint64_t n_cols) { return 2 * n_activation_blocks(n_cols); }

/// to: [n_rows][activation_row_blocks(n_cols)], 16-byte aligned. A value that is not finite makes
/// its 32 columns NaN.
CudaStatus quantize_rows_cuda(DeviceRows<const float> x, uint32_t n_cols, uint32_t n_rows,
                              ActivationBlock* to, CudaStream stream);

/// The same of silu(gate) * up.
CudaStatus silu_mul_quantize_cuda(DeviceRows<const float> gate, DeviceRows<const float> up,
                                  uint32_t n_cols, uint32_t n_rows, ActivationBlock* to,
                                  const RowFilter& filter, CudaStream stream);

}  // namespace hybrid
