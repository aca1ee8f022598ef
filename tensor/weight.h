#pragma once
// A weight of the model: its rows as they lie in the file and, where it was packed, its panels.

#include "numa/split_range.h"
#include "tensor/panel.h"

namespace hybrid {

struct GgufTensor;

/// Panels that lie one behind the other, in the memory of one node: those from `first` on, up to
/// the next run's.
struct PanelRun {
  uint64_t first = 0;
  const std::byte* panels = nullptr;
};

/// Rows that a cut over memory nodes does not divide: two panels, which kernels take together, and
/// the columns of one group of the next product's activations.
inline constexpr uint64_t kCutRows = 2 * kPanelRows;

/// One matrix {n_cols, n_rows}, or a stack of them {n_cols, n_rows, n_matrices} (experts, heads).
/// Where it was packed for several memory nodes each matrix is cut into as many runs; where it
/// holds two matrices one below the other (gate and up), each of these parts is.
struct Weight {
  TensorView rows;
  const std::byte* panels = nullptr;   // those of matrix 0, of matrix 1, ...; null where it is cut
  const int8_t* exponents = nullptr;   // one for each panel
  const GgufTensor* source = nullptr;  // whose rows they are; parts of a weight do not know it
  const PanelRun* runs = nullptr;      // [n_matrices][n_parts][n_runs + 1] where it is cut
  uint32_t n_runs = 0;                 // one for each slice of the node plan
  uint32_t n_parts = 1;                // of a matrix, with as many rows each

  bool empty() const { return rows.empty(); }
  bool packed() const { return panels != nullptr || is_cut(); }
  bool is_cut() const { return runs != nullptr; }
  DType type() const { return rows.type; }
  uint64_t n_cols() const { return rows.ne[0]; }
  uint64_t n_rows() const { return rows.ne[1]; }  // of one matrix
  uint64_t n_matrices() const { return rows.ne[2] * rows.ne[3]; }
  uint64_t n_panels() const { return (n_rows() + kPanelRows - 1) / kPanelRows; }  // of one matrix

  /// Matrix i alone.
  Weight slice(uint64_t i) const;

  /// Matrices [first, first + n) of a stack. They know the source.
  Weight range(uint64_t first, uint64_t n) const;

  /// n rows from `first` on, of a single matrix. `first` is a multiple of 16 where it is packed;
  /// where it is cut they are one of its parts.
  Weight part(uint64_t first, uint64_t n) const;

  /// Panels [begin, end) of a single matrix or part that lie in slice s; it is cut.
  IndexRange run(uint64_t s) const { return {runs[s].first, runs[s + 1].first}; }
};

/// Panels that are packed together where a weight was not packed: they stay in the L2 cache.
inline constexpr uint64_t kPanelsOnTheSpot = 2;

/// Bytes and number of the panels of all its matrices.
uint64_t packed_bytes(const Weight& w);
uint64_t packed_panels(const Weight& w);

/// Packs panels [begin, end) of all its matrices, counted through, from its rows. The rows' pages
/// of a mapped file are read in one go and given back.
void pack_panels(const Weight& w, uint64_t begin, uint64_t end, std::byte* panels,
                 int8_t* exponents);

/// What each thread keeps for products with a weight that was not packed.
uint64_t on_the_spot_thread_bytes(const Weight& w);

/// Panels [begin, end) of a single matrix: those it has (of one run, where it is cut), or, where it
/// was not packed, packed on the spot into memory of the calling thread (valid until its next call
/// with the same `slot`, 0 or 1).
PanelMatrix panels_of(const Weight& w, uint64_t begin, uint64_t end, int slot = 0);

}  // namespace hybrid
