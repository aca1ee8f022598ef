#pragma once
// What the kernels of panel_int8.h share, whatever the form of their tokens.

#include <algorithm>
#include <cstring>

#include "tensor/panel_int8.h"
#include "tensor/panel_reader-inl.h"

namespace hybrid::internal {
namespace {

/// Groups that are unrolled. A loop is a gain at AVX2 where gathers are unpacked by more code than
/// the caches of instructions hold, elsewhere a loss: up to a quarter for one token in the caches.
template <SimdLevel L, class Reader>
constexpr int unrolled_groups() {
  if constexpr (L == SimdLevel::avx2 && requires { Reader::kGathers; }) return Reader::kPeriod;
  return kGroups;
}

inline uint64_t n_groups_of(uint64_t n_cols, uint64_t block) {
  const uint64_t left = (n_cols - block * kBlockCols + kGroupCols - 1) / kGroupCols;
  return std::min<uint64_t>(left, kGroups);
}

/// y[r] of one panel's rows r, those that the matrix has.
template <SimdLevel L>
HYBRID_INLINE void store_panel(const PanelMatrix& w, uint64_t panel, float* y,
                               typename Lanes<L>::Float sums) {
  const uint64_t row = panel * kPanelRows;
  if (row + kPanelRows <= w.n_rows) return Lanes<L>::store_float(y + row, sums);
  float lanes[kPanelRows];
  Lanes<L>::store_float(lanes, sums);
  std::copy_n(lanes, w.n_rows - row, y + row);
}

template <SimdLevel L>
HYBRID_INLINE void store_rows(const Int8Product& args, uint64_t panel, uint64_t token,
                              typename Lanes<L>::Float sums) {
  store_panel<L>(args.weight, panel, args.y + token * args.y_stride, sums);
}

/// What the next step will read of two panels.
struct NextBlock {
  const std::byte* panels[2];
  uint64_t n_bytes;

  /// The share of tokens [begin, end) of n: all at once would wait for each other.
  void prefetch(int n_panels, uint64_t begin, uint64_t end, uint64_t n) const {
    const uint64_t n_lines = n_bytes / kVectorBytes;
    for (uint64_t i = n_lines * begin / n; i < n_lines * end / n; ++i) {
      for (int p = 0; p < n_panels; ++p) __builtin_prefetch(panels[p] + i * kVectorBytes);
    }
  }
};

}  // namespace
}  // namespace hybrid::internal
