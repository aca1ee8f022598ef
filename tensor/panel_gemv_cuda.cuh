#pragma once
// The kernel of panel_gemv_cuda.h. A block multiplies one panel: 16 lanes are its rows, eight such
// half-warps take its parts of 128 columns in turns, and their sums are added in order. Nothing is
// staged: a part's activations are the same for 16 lanes (one transaction) and come from L1.

#include "tensor/panel.h"
#include "tensor/panel_gemv_cuda.h"
#include "tensor/panel_reader_cuda.cuh"

namespace hybrid::cuda {

inline constexpr int kGemvThreads = 128;
inline constexpr int kGemvSlices = kGemvThreads / 16;

struct PanelGemv {
  const std::byte* panels;
  uint64_t panel_bytes, matrix_bytes;
  const GridTables* grids;
  const int32_t* matrices;
  const int32_t* local;
  uint32_t n_rows, n_cols, n_outputs, outputs_per_input, rows_per_input;
  const ActivationBlock* x;
  const float* x_floats;
  uint64_t x_stride;  // blocks, or floats
  float* y;
  uint64_t y_stride;
};

/// Adds the products of group g of a part to sums. x: the block of the first round of each token;
/// the second one lies n_blocks behind. G: the group in the block.
template <class Reader, int kTokens>
HYBRID_DEVICE void add_bytes(const Reader& reader, int g, int G, const ActivationBlock* const* x,
                             uint32_t n_blocks, float (&sums)[kTokens]) {
  uint32_t w[8];
  for (int i = 0; i < 8; ++i) w[i] = reader.quad(g, i);
  constexpr int kScales = 32 / Reader::kScaleCols, kQuads = 8 / kScales;
  float scale[kScales], minimum[kScales];
  for (int s = 0; s < kScales; ++s) {
    scale[s] = reader.scale(kScales * g + s);
    minimum[s] = minimum_of(reader, scale[s], kScales * g + s);
  }
  for (int t = 0; t < kTokens; ++t) {
    const ActivationBlock &first = *x[t], &rest = x[t][n_blocks];
    const auto* high = reinterpret_cast<const uint4*>(first.q + 32 * G);
    const auto* low = reinterpret_cast<const uint4*>(rest.q + 32 * G);
    const uint4 h0 = high[0], h1 = high[1], l0 = low[0], l1 = low[1];
    const uint32_t hs[8] = {h0.x, h0.y, h0.z, h0.w, h1.x, h1.y, h1.z, h1.w};
    const uint32_t ls[8] = {l0.x, l0.y, l0.z, l0.w, l1.x, l1.y, l1.z, l1.w};
    const float x_scale = rest.scale[G];
    for (int s = 0; s < kScales; ++s) {
      int32_t high_sum = 0, low_sum = 0;
      for (int i = kQuads * s; i < kQuads * (s + 1); ++i) {
        high_sum = Reader::kSigned ? dot_signed(w[i], hs[i], high_sum)
                                   : dot_unsigned(w[i], hs[i], high_sum);
        low_sum =
            Reader::kSigned ? dot_signed(w[i], ls[i], low_sum) : dot_unsigned(w[i], ls[i], low_sum);
      }
      const auto product = static_cast<float>(256 * high_sum + low_sum);
      sums[t] = fmaf(scale[s], x_scale * product, sums[t]);
      if constexpr (has_minimum<Reader>()) {
        const float x_sum = kScales == 1 ? rest.sum32[G] : rest.sum16[2 * G + s];
        sums[t] = fmaf(-minimum[s], x_sum, sums[t]);
      }
    }
  }
}

/// The same for floats: columns 4 i .. of a group that begins at x.
template <class Reader, int kTokens>
HYBRID_DEVICE void add_floats(const Reader& reader, int g, int i, const float* const* x, uint32_t n,
                              float (&sums)[kTokens]) {
  float w[4];
  reader.four(g, i, w);
  for (uint32_t k = 0; k < 4; ++k) {
    if (k >= n) break;
    for (int t = 0; t < kTokens; ++t)
      sums[t] = fmaf(w[k], x[t][4 * i + static_cast<int>(k)], sums[t]);
  }
}

/// grid.x: kTokens outputs each, so that a panel's blocks run together and it is read from memory
/// once; grid.y: panels. At least one block an SM, not more: with that ptxas keeps the loads of a
/// whole part in flight (about 120 registers for one token), which is worth more than warps are.
template <DType type, int kTokens>
HYBRID_KERNEL(kGemvThreads)
panel_gemv_kernel(const PanelGemv a) {
  using Reader = PanelReader<type>;
  HYBRID_SHARED(parts, float[kTokens][kGemvSlices][kPanelRows]);
  const uint32_t row = threadIdx.x % 16, slice = threadIdx.x / 16, panel = blockIdx.y;
  const uint32_t first = blockIdx.x * kTokens;
  int matrix = 0;
  if (a.matrices != nullptr) {
    matrix = a.matrices[first];
    if (a.local != nullptr) matrix = a.local[matrix];
    if (matrix < 0) return;
  }
  const std::byte* lane =
      a.panels + static_cast<uint64_t>(matrix) * a.matrix_bytes + panel * a.panel_bytes + 4 * row;
  uint64_t input[kTokens];
  for (uint32_t t = 0; t < kTokens; ++t) {
    const uint32_t output = smaller(first + t, a.n_outputs - 1);  // one too many: computed in vain
    const uint32_t of_rows = 16 * panel / a.rows_per_input;
    input[t] = static_cast<uint64_t>(output / a.outputs_per_input) * (a.n_rows / a.rows_per_input) +
               of_rows;
  }
  float sums[kTokens] = {};
  const uint32_t n_groups = (a.n_cols + 31) / 32;
  const uint32_t n_blocks = (a.n_cols + 255) / 256;
  for (uint32_t part = slice; kPartGroups * part < n_groups; part += kGemvSlices) {
    const Reader reader(lane, part, a.grids);
    const uint32_t n = smaller<uint32_t>(kPartGroups, n_groups - kPartGroups * part);
    if constexpr (Reader::kIsFloat) {
      for (uint32_t g = 0; g < n; ++g) {
        const uint32_t column = kPartCols * part + 32 * g;
        const float* x[kTokens];
        for (int t = 0; t < kTokens; ++t) x[t] = a.x_floats + input[t] * a.x_stride + column;
        const uint32_t n_cols = a.n_cols - column;
        if (n_cols >= 32) {
          HYBRID_UNROLL
          for (int i = 0; i < 8; ++i) add_floats(reader, static_cast<int>(g), i, x, 4, sums);
        } else {
          HYBRID_NO_UNROLL
          for (uint32_t i = 0; 4 * i < n_cols; ++i) {
            add_floats(reader, static_cast<int>(g), static_cast<int>(i), x, n_cols - 4 * i, sums);
          }
        }
      }
    } else {
      const ActivationBlock* x[kTokens];
      for (int t = 0; t < kTokens; ++t) x[t] = a.x + input[t] * a.x_stride + part / 2;
      const int first_group = static_cast<int>(part % 2) * kPartGroups;
      if (n == kPartGroups) {
        HYBRID_UNROLL_BY(kTokens == 1 ? kPartGroups : 2)
        for (int g = 0; g < kPartGroups; ++g) {
          add_bytes(reader, g, first_group + g, x, n_blocks, sums);
        }
      } else {
        HYBRID_NO_UNROLL
        for (uint32_t g = 0; g < n; ++g) {
          add_bytes(reader, static_cast<int>(g), first_group + static_cast<int>(g), x, n_blocks,
                    sums);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) parts[t][slice][row] = sums[t];
  __syncthreads();
  if (threadIdx.x >= 16 * kTokens) return;
  const uint32_t t = slice, to_row = 16 * panel + row;
  if (first + t >= a.n_outputs || to_row >= a.n_rows) return;
  float sum = 0;
  for (int s = 0; s < kGemvSlices; ++s) sum += parts[t][s][row];
  a.y[(first + t) * a.y_stride + to_row] = sum;
}

template <DType type>
CudaStatus launch_panel_gemv(const PanelGemvArgs& args, CudaStream stream) {
  const DevicePanels& w = args.w;
  const uint32_t n_panels = (w.n_rows + 15) / 16;
  PanelGemv a{};
  a.panels = w.data;
  a.panel_bytes = panel_bytes(type, w.n_cols);
  a.matrix_bytes = a.panel_bytes * n_panels;
  a.grids = w.grids;
  a.matrices = args.matrices;
  a.local = args.local;
  a.n_rows = w.n_rows;
  a.n_cols = w.n_cols;
  a.n_outputs = args.n_outputs;
  a.outputs_per_input = args.outputs_per_input;
  a.rows_per_input = args.rows_per_input == 0 ? w.n_rows : args.rows_per_input;
  a.x = args.x;
  a.x_floats = args.x_floats.data;
  a.x_stride = PanelReader<type>::kIsFloat ? args.x_floats.stride : activation_row_blocks(w.n_cols);
  a.y = args.y.data;
  a.y_stride = args.y.stride;
  const auto run = [&](void (*kernel)(PanelGemv), uint32_t n_tokens) {
    const Grid grid((args.n_outputs + n_tokens - 1) / n_tokens, n_panels);
    return launch(kernel, grid, Grid(kGemvThreads), 0, stream, a);
  };
  // Outputs with a matrix each are alone in their blocks.
  if (args.matrices != nullptr || args.n_outputs == 1) return run(panel_gemv_kernel<type, 1>, 1);
  if (args.n_outputs == 2) return run(panel_gemv_kernel<type, 2>, 2);
  return run(panel_gemv_kernel<type, 4>, 4);
}

/// Launches the kernel of the first of these types that is the matrix's.
template <DType... types>
bool launch_panel_gemv_of(const PanelGemvArgs& args, CudaStream stream, CudaStatus& status) {
  return ((args.w.type == types && (status = launch_panel_gemv<types>(args, stream), true)) || ...);
}

}  // namespace hybrid::cuda
