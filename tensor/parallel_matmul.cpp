#include "tensor/parallel_matmul.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/rounding.h"
#include "tensor/matmul.h"
#include "tensor/panel_matmul.h"
#include "tensor/simd_level.h"
#include "tensor/tile_sums.h"

namespace hybrid {
namespace {

constexpr uint64_t kRowsPerTask = 64;
constexpr uint64_t kPairsPerTask = 8;    // 256 rows
constexpr uint64_t kPanelsPerPiece = 2;  // that the kernel for one token reads together

/// kRowsPerTask, or fewer where a weight has few rows, as a router: every thread gets some.
uint64_t rows_per_task(uint64_t n_rows, int n_threads) {
  const uint64_t n_groups = divide_up(n_rows, kMatmulRowGroup);
  const uint64_t n_each = divide_up(n_groups, static_cast<uint64_t>(n_threads));
  return std::min(kRowsPerTask, n_each * kMatmulRowGroup);
}

/// Calls body(begin, end) for all panels (panels_each of them are one item), `grain` items or more
/// at a time. Those of a slice go to its workers; without slices, those of a single token go along
/// memory, and of several to whoever is free.
template <class Body>
void share_out(const Weight& w, uint64_t panels_each, uint64_t grain, bool is_single,
               Workers& workers, const Body& body) {
  if (w.is_cut()) {
    std::array<IndexRange, Workers::kMaxSlices> ranges;
    HYBRID_CHECK(w.n_runs <= ranges.size());
    for (uint64_t s = 0; s < w.n_runs; ++s) {
      const IndexRange run = w.run(s);
      ranges[s] = {divide_up(run.begin, panels_each), divide_up(run.end, panels_each)};
    }
    return workers.parallel_slices(
        {ranges.data(), w.n_runs}, grain,
        [&](uint64_t, uint64_t begin, uint64_t end) { body(begin, end); });
  }
  const uint64_t n = divide_up(w.n_panels(), panels_each);
  if (is_single) return workers.parallel_shares(n, grain, body);
  workers.parallel_for(n, grain, body);
}

void matmul_floats(const Weight& w, MatmulInput& in, float* y, Workers& workers) {
  const uint64_t n_rows = w.n_rows();
  if (simd_level() == SimdLevel::scalar || w.type() == DType::f32) {
    const MatmulArgs args{w.rows, in.x(), w.n_cols(), y, n_rows, in.n_tokens()};
    const auto body = [&](uint64_t begin, uint64_t end) { matmul_rows(args, begin, end); };
    if (in.n_tokens() > 1) {
      return workers.parallel_for(n_rows, rows_per_task(n_rows, workers.n_threads()), body);
    }
    return workers.parallel_ranges(n_rows, kMatmulRowGroup,
                                   [&](uint64_t begin, uint64_t end, int) { body(begin, end); });
  }
  share_out(w, 1, kRowsPerTask / kPanelRows, false, workers, [&](uint64_t begin, uint64_t end) {
    multiply_floats(w, in.x(), in.n_tokens(), y + begin * kPanelRows, n_rows, begin, end);
  });
}

void matmul_bytes(const Weight& w, MatmulInput& in, float* y, Workers& workers) {
  const auto body = [&](uint64_t begin, uint64_t end) {
    multiply_bytes(w, in.byte_rows(), y + begin * kPanelRows, w.n_rows(), begin, end);
  };
  const bool is_single = in.n_tokens() == 1;
  share_out(w, 1, is_single ? kPanelsPerPiece : kRowsPerTask / kPanelRows, is_single, workers,
            body);
}

void matmul_tiles(const Weight& w, MatmulInput& in, float* y, Workers& workers) {
#if defined(__x86_64__)
  const auto store = [&](const Bf16Product::Sums& sums) {
    store_sums(sums, in.n_tokens(), w.n_rows(), y, w.n_rows());
  };
  share_out(w, 2, kPairsPerTask, false, workers, [&](uint64_t begin, uint64_t end) {
    multiply_tiles(w, {}, in.tile_rows(), begin, end, store);
  });
#endif
}

void matmul_int16(const Weight& w, MatmulInput& in, float* y, Workers& workers) {
  share_out(w, 1, 2 * kPairsPerTask, false, workers, [&](uint64_t begin, uint64_t end) {
    multiply_int16(w, in.int16_rows(), y + begin * kPanelRows, w.n_rows(), begin, end);
  });
}

}  // namespace

void matmul(const Weight& w, MatmulInput& in, float* y, Workers& workers) {
  HYBRID_CHECK(w.n_matrices() == 1 && w.n_cols() == in.n_cols());
  if (in.n_tokens() == 0) return;
  const InputForm form = input_form(w.type(), in.n_tokens(), in.precision());
  in.prepare(form, workers);
  switch (form) {
    case InputForm::floats:
      return matmul_floats(w, in, y, workers);
    case InputForm::bytes:
    case InputForm::words:
      return matmul_bytes(w, in, y, workers);
    case InputForm::tiles:
      return matmul_tiles(w, in, y, workers);
    case InputForm::int16:
      return matmul_int16(w, in, y, workers);
  }
}

}  // namespace hybrid
