#pragma once
// The kernel of panel_gemm_cuda.h. A block: 4 warps x 2 panels = 128 rows, and a tile of outputs.
// Activations pass through shared memory, 128 columns at a time, the next ones on their way while
// these are multiplied; weights do not, since a warp is alone with its panels.

#include "tensor/panel.h"
#include "tensor/panel_gemm_cuda.h"
#include "tensor/panel_reader_cuda.cuh"

namespace hybrid::cuda {

inline constexpr int kGemmThreads = 128;
inline constexpr int kGemmWarps = kGemmThreads / 32;
inline constexpr int kPanelsOfWarp = 2;
inline constexpr uint32_t kGemmRows = kGemmWarps * kPanelsOfWarp * kPanelRows;
/// Elements of a row of activations in shared memory: 288 bytes, which puts the 8-byte loads of
/// four outputs side by side over all 32 banks.
inline constexpr int kGemmRowElements = kPartCols + 16;

struct PanelGemm {
  const std::byte* panels;
  uint64_t panel_bytes, matrix_bytes;
  const GridTables* grids;
  const bf16_t* x;
  uint64_t x_stride;
  const uint32_t* x_rows;
  const GemmTile* tiles;
  const uint32_t* n_tiles;
  uint32_t n_rows, n_cols, n_panels, n_outputs;
  float* y;
  bf16_t* y_bf16;
  uint64_t y_stride;
};

/// Starts the copies of columns [column, column + 128) of a tile's activations.
template <int kOutputs>
HYBRID_DEVICE void fetch_activations(const PanelGemm& a, const uint32_t (&rows)[kOutputs],
                                     uint32_t n, uint32_t column,
                                     bf16_t (&tile)[kOutputs][kGemmRowElements]) {
  constexpr uint32_t kChunks = kPartCols / 8;
  for (uint32_t i = threadIdx.x; i < kOutputs * kChunks; i += kGemmThreads) {
    const uint32_t o = i / kChunks, at = i % kChunks * 8;
    const bool is_there = o < n && column + at < a.x_stride;
    const bf16_t* from = a.x + (is_there ? rows[o] * a.x_stride + column + at : 0);
    copy_async_16(&tile[o][at], from, is_there);
  }
  commit_copies();
}

/// Asks for the weights of a part of this warp's panels, about: a type's units may hold several
/// parts, whose fields then lie elsewhere in the unit.
HYBRID_DEVICE void prefetch_weights(const std::byte* const (&lanes)[kPanelsOfWarp],
                                    uint64_t panel_bytes, uint32_t part, uint32_t n_parts) {
  if (part >= n_parts) return;
  const uint64_t begin = panel_bytes * part / n_parts, end = panel_bytes * (part + 1) / n_parts;
  for (uint64_t at = begin + 128 * (threadIdx.x % 32); at < end; at += 128 * 32) {
    for (int p = 0; p < kPanelsOfWarp; ++p) prefetch_l2(lanes[p] + at);
  }
}

/// The fragment of 16 rows and columns 32 g + 16 half .. + 15, of which this lane has rows `lane /
/// 4` and + 8, in the order described in panel_gemm_cuda.h.
template <class Reader>
HYBRID_DEVICE void weight_fragment(const Reader (&rows)[2], const ScaleOfRow (&scales)[2], int g,
                                   int half, uint32_t (&fragment)[4]) {
  const int i = 4 * half + static_cast<int>(threadIdx.x % 4);
  for (int r = 0; r < 2; ++r) {
    float w[4];
    four_of(rows[r], scales[r], g, i, w);
    fragment[r] = pack_bf16(w[0], w[1]);
    fragment[r + 2] = pack_bf16(w[2], w[3]);
  }
}

/// grid.x: tiles, grid.y: kGemmRows rows each. Tiles side by side share the weights in L2.
template <DType type, int kTiles8>
HYBRID_KERNEL(kGemmThreads, 2)
panel_gemm_kernel(const PanelGemm a) {
  using Reader = PanelReader<type>;
  constexpr int kOutputs = 8 * kTiles8;
  HYBRID_SHARED(x_tile, bf16_t[2][kOutputs][kGemmRowElements]);
  HYBRID_SHARED(rows, uint32_t[kOutputs]);
  GemmTile tile{0, kOutputs * blockIdx.x, 0};
  if (a.tiles != nullptr) {
    if (blockIdx.x >= *a.n_tiles) return;
    tile = a.tiles[blockIdx.x];
  } else {
    tile.n = smaller<uint32_t>(kOutputs, a.n_outputs - tile.first);
  }
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t group = lane / 4, pair = lane % 4;
  const uint32_t first_panel = (blockIdx.y * kGemmWarps + warp) * kPanelsOfWarp;
  const std::byte* lanes[kPanelsOfWarp];
  for (uint32_t p = 0; p < kPanelsOfWarp; ++p) {
    const uint32_t panel = smaller(first_panel + p, a.n_panels - 1);  // past the end: in vain
    lanes[p] = a.panels + static_cast<uint64_t>(tile.matrix) * a.matrix_bytes +
               panel * a.panel_bytes + 4 * group;
  }
  for (uint32_t o = threadIdx.x; o < tile.n; o += kGemmThreads) {
    rows[o] = a.x_rows != nullptr ? a.x_rows[tile.first + o] : tile.first + o;
  }
  __syncthreads();
  float sums[kPanelsOfWarp][kTiles8][4] = {};
  const uint32_t n_groups = (a.n_cols + 31) / 32;
  const uint32_t n_parts = (n_groups + kPartGroups - 1) / kPartGroups;
  fetch_activations(a, rows, tile.n, 0, x_tile[0]);
  for (uint32_t part = 0; part < n_parts; ++part) {
    if (part + 1 < n_parts) {
      fetch_activations(a, rows, tile.n, (part + 1) * kPartCols, x_tile[(part + 1) % 2]);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    prefetch_weights(lanes, a.panel_bytes, part + 2, n_parts);
    __syncthreads();
    const auto& x = x_tile[part % 2];
    const Reader readers[kPanelsOfWarp][2] = {
        {Reader(lanes[0], part, a.grids), Reader(lanes[0] + 32, part, a.grids)},
        {Reader(lanes[1], part, a.grids), Reader(lanes[1] + 32, part, a.grids)}};
    const int n = static_cast<int>(smaller<uint32_t>(kPartGroups, n_groups - kPartGroups * part));
    ScaleOfRow scales[kPanelsOfWarp][2];
    HYBRID_NO_UNROLL
    for (int g = 0; g < n; ++g) {
      HYBRID_UNROLL
      for (int half = 0; half < 2; ++half) {
        uint32_t w[kPanelsOfWarp][4];
        for (int p = 0; p < kPanelsOfWarp; ++p) {
          for (int r = 0; r < 2; ++r) scales[p][r].set(readers[p][r], g, half);
          weight_fragment(readers[p], scales[p], g, half, w[p]);
        }
        for (uint32_t j = 0; j < kTiles8; ++j) {
          const uint2 columns = *reinterpret_cast<const uint2*>(
              &x[8 * j + group][32 * g + 16 * half + 4 * static_cast<int>(pair)]);
          const uint32_t fragment[2] = {columns.x, columns.y};
          for (int p = 0; p < kPanelsOfWarp; ++p) mma_bf16(sums[p][j], w[p], fragment);
        }
      }
    }
    __syncthreads();  // the next copies overwrite this tile
  }
  HYBRID_UNROLL  // all three: sums are registers
      for (uint32_t p = 0; p < kPanelsOfWarp; ++p) {
    HYBRID_UNROLL
    for (uint32_t j = 0; j < kTiles8; ++j) {
      HYBRID_UNROLL
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = (first_panel + p) * kPanelRows + group + i / 2 * 8;
        const uint32_t o = 8 * j + 2 * pair + i % 2;
        if (o >= tile.n || row >= a.n_rows) continue;
        const uint64_t to = (tile.first + o) * a.y_stride + row;
        if (a.y_bf16 != nullptr) {
          a.y_bf16[to] = float_to_bf16(sums[p][j][i]);
        } else {
          a.y[to] = sums[p][j][i];
        }
      }
    }
  }
}

template <DType type>
CudaStatus launch_panel_gemm(const PanelGemmArgs& args, CudaStream stream) {
  const DevicePanels& w = args.w;
  PanelGemm a{};
  a.panels = w.data;
  a.n_panels = (w.n_rows + 15) / 16;
  a.panel_bytes = panel_bytes(type, w.n_cols);
  a.matrix_bytes = a.panel_bytes * a.n_panels;
  a.grids = w.grids;
  a.x = args.x.data;
  a.x_stride = args.x.stride;
  a.x_rows = args.x_rows;
  a.tiles = args.tiles;
  a.n_tiles = args.n_tiles;
  a.n_rows = w.n_rows;
  a.n_cols = w.n_cols;
  a.n_outputs = args.n_outputs;
  a.y = args.y.data;
  a.y_bf16 = args.y_bf16.data;
  a.y_stride = args.y.data != nullptr ? args.y.stride : args.y_bf16.stride;
  const uint32_t n_row_tiles = (w.n_rows + kGemmRows - 1) / kGemmRows;
  if (args.tiles != nullptr) {
    return launch(panel_gemm_kernel<type, 8>, Grid(args.max_tiles, n_row_tiles), Grid(kGemmThreads),
                  0, stream, a);
  }
  const auto run = [&](void (*kernel)(PanelGemm), uint32_t n_outputs) {
    const Grid grid((args.n_outputs + n_outputs - 1) / n_outputs, n_row_tiles);
    return launch(kernel, grid, Grid(kGemmThreads), 0, stream, a);
  };
  return args.n_outputs <= 16 ? run(panel_gemm_kernel<type, 2>, 16)
                              : run(panel_gemm_kernel<type, 8>, 64);
}

/// Launches the kernel of the first of these types that is the matrix's.
template <DType... types>
bool launch_panel_gemm_of(const PanelGemmArgs& args, CudaStream stream, CudaStatus& status) {
  return ((args.w.type == types && (status = launch_panel_gemm<types>(args, stream), true)) || ...);
}

}  // namespace hybrid::cuda
