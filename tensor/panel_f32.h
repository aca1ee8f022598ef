#pragma once
// A product of floats with floats, the right side in panels of 16 columns. Panels are read once for
// each tile of tokens, from the L1 or L2 cache: what makes attention over many queries cheap.
//
// Panel p of a matrix of n_k rows, n_k * 16 floats:
//   b[p][k][lane] = element (k, 16 p + lane)

#include <cstdint>

#include "tensor/bf16_tiles.h"
#include "tensor/simd_level.h"

namespace hybrid {

inline constexpr uint64_t kPanelLanes = 16;

inline constexpr uint64_t n_panels_of(uint64_t n_lanes) {
  return (n_lanes + kPanelLanes - 1) / kPanelLanes;
}

/// c[t * c_stride + p * c_panel_stride + lane] = sum over k of a[t][k] * b[p][k][lane], added to c
/// where `accumulate`. With the default c_panel_stride c has rows; with c_stride = 16 it has
/// panels.
struct PanelArgs {
  const float* a = nullptr;  // n_tokens rows of n_k
  uint64_t a_stride = 0;     // floats from row to row
  const float* b = nullptr;  // n_panels_of(n_lanes) panels; fastest where it begins a cache line
  uint64_t b_stride = 0;     // floats from panel to panel, at least 16 n_k
  float* c = nullptr;        // overlaps neither a nor b
  uint64_t c_stride = 0;     // floats from row to row
  uint64_t c_panel_stride = kPanelLanes;
  uint64_t n_tokens = 0;
  uint64_t n_k = 0;
  uint64_t n_lanes = 0;  // lanes beyond it in the last panel are read and have no effect
  bool accumulate = false;
  bool a_is_prepared = false;  // by prepare_rows
  bool b_is_prepared = false;  // by prepare_panels
};

/// Each sum is taken from k = 0 upwards, one product at a time (fused at avx2 and avx512_vnni), and
/// then added to c. At amx every float is the sum of two bf16 numbers (2^-17), and 32 k make one
/// step of a sum. An element is therefore the same bit for bit, at one level, whatever n_tokens,
/// n_lanes and the tile it falls into.
void panel_matmul(const PanelArgs& args);

/// Panels whose lanes are the rows of a matrix, for products of rows with rows:
/// panels[p][k][lane] = rows[16 p + lane][k]; lanes beyond n_rows become 0.
void pack_rows_as_lanes(const float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k,
                        float* panels, uint64_t panel_stride);

/// Panels whose lanes are the columns of a matrix of n_k rows:
/// panels[p][k][lane] = rows[k][16 p + lane]; lanes beyond n_lanes become 0.
void pack_columns_as_lanes(const float* rows, uint64_t row_stride, uint64_t n_k, uint64_t n_lanes,
                           float* panels, uint64_t panel_stride);

// For operands of many products: at amx, what panel_matmul would make of them each time, made once
// and in place; at other levels nothing. Where they lie there must be room for whole groups of k.

inline constexpr uint64_t kPreparedCols = kTileCols;
inline uint64_t prepared_cols(uint64_t n_k) { return n_tile_groups(n_k) * kTileCols; }

/// Panels of n_k, a multiple of prepared_cols() apart: products may take n_k from 0, or fewer from
/// a multiple of kPreparedCols on. All on cache lines.
void prepare_panels(float* panels, uint64_t panel_stride, uint64_t n_panels, uint64_t n_k);

/// Rows at a distance of row_stride >= prepared_cols(n_k), a multiple of 16; of a number that is
/// none of 16 the last rows' place is taken, too. Products begin at a multiple of 16 rows.
void prepare_rows(float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k);

// What each thread keeps for these at the level in force, each for the largest call it has met: for
// sides of products that were not prepared, and for prepare_rows().
uint64_t panel_a_thread_bytes(uint64_t n_tokens, uint64_t n_k);
uint64_t panel_b_thread_bytes(uint64_t n_k, uint64_t n_lanes);
uint64_t prepare_thread_bytes(uint64_t n_k);

template <SimdLevel L>
void panel_matmul_at(const PanelArgs& args);

}  // namespace hybrid
