#include "runtime/panel_layout.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"

namespace hybrid {
namespace {

uint64_t bytes_each(const Weight& w) { return panel_bytes(w.type(), w.n_cols()); }

/// The matrices that are cut: a weight's, or each half of one that has two below each other.
uint64_t n_units(const Weight& w) { return w.n_matrices() * w.n_parts; }

/// Panels of one; more than one part is whole panels.
uint64_t unit_panels(const Weight& w) { return w.n_panels() / w.n_parts; }

/// What each slice gets of unit i, in panels. Experts one after the other are rounded in turn; gate
/// and up of one are cut alike.
std::vector<IndexRange> cut(const NodePlan& nodes, const Weight& w, uint64_t unit) {
  const uint64_t n_rows = w.n_rows() / w.n_parts;
  std::vector<IndexRange> ranges = slice_rows(nodes, n_rows, kCutRows, unit / w.n_parts);
  for (IndexRange& range : ranges) {
    range = {divide_up(range.begin, kPanelRows), divide_up(range.end, kPanelRows)};
  }
  return ranges;
}

/// Panels for a piece of a weight: about 2 MB of the file.
uint64_t panels_per_piece(const Weight& w) {
  return std::max<uint64_t>(1, (uint64_t{2048} << 10) / (kPanelRows * w.rows.row_bytes()));
}

}  // namespace

std::vector<uint64_t> packed_slice_bytes(std::span<const Weight* const> weights,
                                         const NodePlan* nodes) {
  std::vector<uint64_t> bytes(nodes == nullptr ? 1 : nodes->slices.size());
  for (const Weight* w : weights) {
    if (bytes.size() == 1) {
      bytes[0] += packed_bytes(*w);
      continue;
    }
    for (uint64_t unit = 0; unit < n_units(*w); ++unit) {
      const std::vector<IndexRange> ranges = cut(*nodes, *w, unit);
      for (size_t s = 0; s < bytes.size(); ++s) {
        bytes[s] += (ranges[s].end - ranges[s].begin) * bytes_each(*w);
      }
    }
  }
  return bytes;
}

uint64_t PanelLayout::Piece::n_bytes() const { return (end - begin) * bytes_each(*weight); }

PanelLayout::PanelLayout(std::vector<Weight*> weights, const NodePlan* nodes)
    : weights_(std::move(weights)), nodes_(nodes) {}

std::vector<uint64_t> PanelLayout::slice_bytes() const {
  return packed_slice_bytes(std::vector<const Weight*>(weights_.begin(), weights_.end()), nodes_);
}

uint64_t PanelLayout::n_panels() const {
  uint64_t n = 0;
  for (const Weight* w : weights_) n += packed_panels(*w);
  return n;
}

void PanelLayout::place(NodeArena& arena, int8_t* exponents) {
  std::vector<uint64_t> at(arena.n_slices());
  if (is_cut()) {
    HYBRID_CHECK(arena.n_slices() == nodes_->slices.size());
    uint64_t n_runs = 0;
    for (const Weight* w : weights_) n_runs += n_units(*w) * (at.size() + 1);
    runs_.reserve(n_runs);  // the weights keep pointers
  }
  for (Weight* w : weights_) {
    w->exponents = exponents;
    exponents += packed_panels(*w);
    if (!is_cut()) {
      w->panels = arena.slice(0).data() + at[0];
      at[0] += packed_bytes(*w);
      continue;
    }
    w->runs = runs_.data() + runs_.size();
    w->n_runs = static_cast<uint32_t>(at.size());
    for (uint64_t unit = 0; unit < n_units(*w); ++unit) {
      const std::vector<IndexRange> ranges = cut(*nodes_, *w, unit);
      for (size_t s = 0; s < at.size(); ++s) {
        runs_.push_back({ranges[s].begin, arena.slice(s).data() + at[s]});
        at[s] += (ranges[s].end - ranges[s].begin) * bytes_each(*w);
      }
      runs_.push_back({unit_panels(*w), nullptr});
    }
  }
}

std::vector<std::vector<PanelLayout::Piece>> PanelLayout::pieces() const {
  std::vector<std::vector<Piece>> pieces(is_cut() ? nodes_->slices.size() : 1);
  for (const Weight* w : weights_) {
    const uint64_t step = panels_per_piece(*w);
    // The pointers are ours: Weight only promises others not to write.
    const auto add = [&](size_t slice, IndexRange panels, const std::byte* memory) {
      auto* to = const_cast<std::byte*>(memory);
      for (uint64_t p = panels.begin; p < panels.end; p += step) {
        pieces[slice].push_back(
            {w, p, std::min(panels.end, p + step), to + (p - panels.begin) * bytes_each(*w)});
      }
    };
    if (!is_cut()) {
      add(0, {0, packed_panels(*w)}, w->panels);
      continue;
    }
    for (uint64_t unit = 0; unit < n_units(*w); ++unit) {
      const PanelRun* runs = w->runs + unit * (pieces.size() + 1);
      const uint64_t first = unit * unit_panels(*w);
      for (size_t s = 0; s < pieces.size(); ++s) {
        add(s, {first + runs[s].first, first + runs[s + 1].first}, runs[s].panels);
      }
    }
  }
  return pieces;
}

PanelMemory PanelLayout::memory(NodeArena& arena, std::span<int8_t> exponents) const {
  PanelMemory memory{.exponents = exponents};
  if (!is_cut()) {
    memory.panels = arena.slice(0);
    return memory;
  }
  for (const Weight* w : weights_) {
    for (uint64_t unit = 0; unit < n_units(*w); ++unit) {
      const PanelRun* runs = w->runs + unit * (w->n_runs + 1);
      for (uint32_t s = 0; s < w->n_runs; ++s) {
        const uint64_t n = (runs[s + 1].first - runs[s].first) * bytes_each(*w);
        if (n > 0) memory.add({const_cast<std::byte*>(runs[s].panels), n});
      }
    }
  }
  return memory;
}

}  // namespace hybrid
