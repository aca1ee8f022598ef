#pragma once
// Panels times many vectors on a device: prefill.
//
//   y[o][r] = sum_c bf16(w[m(o)][r][c]) * x[x_rows[o]][c]
//
// Weights are decoded to floats and rounded to bf16, x is bf16, products are added in floats by the
// matrix units (mma.m16n8k16). Outputs of one matrix come in tiles: those of a dense product are
// cut here, those of routed experts on the device (experts/routes_cuda.h), so that one launch
// serves all experts.
//
// A warp multiplies two panels with 64 outputs (16 where a tile is that small). Weights go from
// memory into fragments without a stop: columns may be numbered as one likes if both sides agree,
// and with the k of an mma counted as 4 t + {0, 1, 2, 3} for lane t of four, a lane's fragment is
// one dword of each of two rows: four columns, as panels have them. By arithmetic, not measurement:
// for 16 mma a lane decodes 16 weights in about 60 instructions and loads activations in 8; 16 mma
// take 64 clocks of an H100's sub-core at the full rate of its matrix units, which mma.sync does
// not reach. So decoding costs about as much as multiplying, and more outputs a warp would be
// better.

#include "tensor/device_panels.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// Outputs [first, first + n) belong to one matrix; n <= kTileOutputs.
struct GemmTile {
  int32_t matrix;
  uint32_t first, n;
};
inline constexpr uint32_t kTileOutputs = 64;

/// The stride of rows of n that x takes.
inline uint64_t bf16_row_stride(uint64_t n) { return (n + 31) / 32 * 32; }

struct PanelGemmArgs {
  DevicePanels w;
  DeviceRows<const bf16_t> x;  // stride a multiple of 32, zeros behind n_cols; 16-byte aligned
  const uint32_t* x_rows = nullptr;  // [n_outputs]; null: row o

  // Either all outputs of matrix 0 ...
  uint32_t n_outputs = 0;
  // ... or tiles: *n_tiles of them, at most max_tiles.
  const GemmTile* tiles = nullptr;
  const uint32_t* n_tiles = nullptr;
  uint32_t max_tiles = 0;

  // One of them:
  DeviceRows<float> y;
  DeviceRows<bf16_t> y_bf16;
};
CudaStatus panel_gemm_cuda(const PanelGemmArgs& args, CudaStream stream);

namespace cuda {
// By family; false where the type is none of it.
bool panel_gemm_legacy(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status);
bool panel_gemm_k(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status);
bool panel_gemm_iq(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status);
}  // namespace cuda

}  // namespace hybrid
