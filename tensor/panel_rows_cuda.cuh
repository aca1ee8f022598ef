#pragma once
// The kernel of panel_rows_cuda.h. A row's dwords lie 64 bytes apart, so a sixteenth of what is
// read is used: 64 KB for a row of 4 KB, which is nothing beside a layer.

#include "tensor/panel.h"
#include "tensor/panel_reader_iq_cuda.cuh"
#include "tensor/panel_rows_cuda.h"

namespace hybrid::cuda {

inline constexpr int kPanelRowsThreads = 128;  // four parts of 128 columns

/// A warp a part, a lane four columns; grid.x: rows, grid.y: four parts each.
template <DType type>
HYBRID_KERNEL(kPanelRowsThreads)
panel_rows_kernel(const DevicePanels w, uint64_t panel_bytes, const int32_t* ids, float* y,
                  uint64_t y_stride) {
  const auto row = static_cast<uint32_t>(ids[blockIdx.x]);
  const uint32_t part = blockIdx.y * (kPanelRowsThreads / 32) + threadIdx.x / 32;
  const uint32_t lane = threadIdx.x % 32, column = kPartCols * part + 4 * lane;
  if (column >= w.n_cols) return;
  const PanelReader<type> reader(w.data + row / 16 * panel_bytes + row % 16 * 4, part, w.grids);
  const int g = static_cast<int>(lane / 8), i = static_cast<int>(lane % 8);
  ScaleOfRow scale;
  scale.set(reader, g, 0);
  if (i >= 4) scale.set(reader, g, 1);
  float values[4];
  four_of(reader, scale, g, i, values);
  for (uint32_t k = 0; k < 4; ++k) {
    if (column + k < w.n_cols) y[blockIdx.x * y_stride + column + k] = values[k];
  }
}

template <DType type>
CudaStatus launch_panel_rows(const DevicePanels& w, const int32_t* ids, uint32_t n_ids,
                             DeviceRows<float> y, CudaStream stream) {
  const uint32_t of_block = kPanelRowsThreads / 32 * kPartCols;
  return launch(panel_rows_kernel<type>, Grid(n_ids, (w.n_cols + of_block - 1) / of_block),
                Grid(kPanelRowsThreads), 0, stream, w, panel_bytes(type, w.n_cols), ids, y.data,
                y.stride);
}

}  // namespace hybrid::cuda
