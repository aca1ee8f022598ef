#pragma once
// Panels times a few vectors on a device: decode.
//
//   y[o][r] = sum_c w[m(o)][r][c] * x[i(o, r)][c]
//   m(o)    = matrices[o], or local[matrices[o]] (below 0: output o is left alone), or 0
//   i(o, r) = o / outputs_per_input, or, where each rows_per_input rows have a vector of their own
//             (heads), o / outputs_per_input * (n_rows / rows_per_input) + r / rows_per_input
//
// Quantised types multiply activations in two rounds of bytes (activation_blocks_cuda.h), as the
// CPU's `fine` does: the sums of 16 or 32 columns are integers, their sum over columns is floats in
// an order that depends on n_cols alone. Float types multiply floats.
//
// Why bytes: a dword of weights takes two dp4a instead of four conversions and four fmaf. By
// arithmetic, not measurement: Q4_K at 0.5625 bytes a weight and H100's 3.35 TB/s are 6.0e12
// weights a second, 3.0e12 dp4a; 132 SMs x 64 lanes x 1.75 GHz issue 14.8e12, so one token waits
// for memory and up to about four do (floats: about 3 instructions a weight of the 29.6e12 a second
// there are, 60 % for a single token). An RTX 4090 at 1.0 TB/s has three times that room.

#include "tensor/activation_blocks_cuda.h"
#include "tensor/device_panels.h"

namespace hybrid {

struct PanelGemvArgs {
  DevicePanels w;
  const int32_t* matrices = nullptr;  // [n_outputs]
  const int32_t* local = nullptr;
  uint32_t n_outputs = 0;
  uint32_t outputs_per_input = 1;
  uint32_t rows_per_input = 0;         // 0: all rows; else a multiple of 16
  const ActivationBlock* x = nullptr;  // quantised types: rows of activation_row_blocks(n_cols)
  DeviceRows<const float> x_floats;    // float types
  DeviceRows<float> y;
};
CudaStatus panel_gemv_cuda(const PanelGemvArgs& args, CudaStream stream);

namespace cuda {
// By family; false where the type is none of it.
bool panel_gemv_legacy(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status);
bool panel_gemv_k(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status);
bool panel_gemv_iq(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status);
}  // namespace cuda

}  // namespace hybrid
