#include "tensor/weight.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "numa/huge_buffer.h"
#include "tensor/mapped_file.h"

namespace hybrid {
namespace {

struct PackScratch {
  HugeBuffer panels;
  std::vector<int8_t> exponents;
};

PanelMatrix pack_on_the_spot(const Weight& w, uint64_t begin, uint64_t end, int slot) {
  thread_local PackScratch scratch[2];
  PackScratch& s = scratch[slot];
  const uint64_t size = panel_bytes(w.type(), w.n_cols()), n = end - begin;
  if (s.panels.n_bytes() < n * size) s.panels = HugeBuffer(n * size);
  if (s.exponents.size() < n) s.exponents.resize(n);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t first = (begin + i) * kPanelRows;
    const uint64_t n_rows = std::min(kPanelRows, w.n_rows() - first);
    s.exponents[i] =
        pack_panel(w.type(), w.rows.row(first), n_rows, w.n_cols(), s.panels.data() + i * size);
  }
  return {w.type(), w.n_cols(), 0, s.panels.data(), s.exponents.data()};
}

const std::byte* find_panel(const Weight& w, uint64_t begin, uint64_t end) {
  const uint64_t size = panel_bytes(w.type(), w.n_cols());
  if (!w.is_cut()) return w.panels + begin * size;
  HYBRID_CHECK(w.n_parts == 1);
  const PanelRun* run = w.runs;
  while (run[1].first <= begin) ++run;
  HYBRID_CHECK(end <= run[1].first);
  return run->panels + (begin - run->first) * size;
}

}  // namespace

Weight Weight::slice(uint64_t i) const {
  const uint64_t size = panel_bytes(type(), n_cols());
  Weight w{rows.slice(i)};
  if (packed()) w.exponents = exponents + i * n_panels();
  w.n_parts = n_parts;
  if (is_cut()) {
    w.n_runs = n_runs;
    w.runs = runs + i * n_parts * (n_runs + 1);
  } else if (packed()) {
    w.panels = panels + i * n_panels() * size;
  }
  return w;
}

Weight Weight::range(uint64_t first, uint64_t n) const {
  HYBRID_CHECK(n > 0 && first + n <= n_matrices());
  Weight w = slice(first);
  const uint64_t n_bytes = rows.data.size() / n_matrices();
  w.source = source;
  w.rows.ne[2] = n;
  w.rows.data = rows.data.subspan(first * n_bytes, n * n_bytes);
  return w;
}

Weight Weight::part(uint64_t first, uint64_t n) const {
  Weight w{rows.rows(first, n)};
  if (packed()) {
    HYBRID_CHECK(first % kPanelRows == 0);
    w.exponents = exponents + first / kPanelRows;
  }
  if (is_cut()) {
    HYBRID_CHECK(n * n_parts == n_rows() && first % n == 0);
    w.n_runs = n_runs;
    w.runs = runs + first / n * (n_runs + 1);
  } else if (packed()) {
    w.panels = panels + first / kPanelRows * panel_bytes(type(), n_cols());
  }
  return w;
}

uint64_t packed_panels(const Weight& w) { return w.n_matrices() * w.n_panels(); }

uint64_t packed_bytes(const Weight& w) {
  return packed_panels(w) * panel_bytes(w.type(), w.n_cols());
}

void pack_panels(const Weight& w, uint64_t begin, uint64_t end, std::byte* panels,
                 int8_t* exponents) {
  const auto row_of = [&](uint64_t panel) {
    return std::min(panel / w.n_panels() * w.n_rows() + panel % w.n_panels() * kPanelRows,
                    w.rows.n_rows());
  };
  const TensorView rows = w.rows.rows(row_of(begin), row_of(end) - row_of(begin));
  const uint64_t size = panel_bytes(w.type(), w.n_cols());
  populate_pages(rows.data);
  for (uint64_t panel = begin; panel < end; ++panel, panels += size) {
    const uint64_t first = panel % w.n_panels() * kPanelRows;
    *exponents++ = pack_panel(w.type(), w.rows.row(row_of(panel)),
                              std::min(kPanelRows, w.n_rows() - first), w.n_cols(), panels);
  }
  release_pages(rows.data);
}

uint64_t on_the_spot_thread_bytes(const Weight& w) {
  const uint64_t n = kPanelsOnTheSpot * panel_bytes(w.type(), w.n_cols());
  return 2 * (HugeBuffer::whole_pages(n) + kPanelsOnTheSpot);
}

PanelMatrix panels_of(const Weight& w, uint64_t begin, uint64_t end, int slot) {
  HYBRID_CHECK(begin < end && end <= w.n_panels() && w.n_matrices() == 1);
  PanelMatrix m;
  if (w.packed()) {
    m = {w.type(), w.n_cols(), 0, find_panel(w, begin, end), w.exponents + begin};
  } else {
    m = pack_on_the_spot(w, begin, end, slot);
  }
  m.n_rows = std::min(w.n_rows(), end * kPanelRows) - begin * kPanelRows;
  return m;
}

}  // namespace hybrid
