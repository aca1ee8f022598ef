#pragma once
// Weights cut over several slices, on whatever memory nodes there are.

#include <algorithm>
#include <vector>

#include "numa/node_plan.h"
#include "runtime/panel_layout.h"

namespace hybrid::test {

/// Slices of this machine's memory, with three processors each (which need not be there), and not
/// bound. weights: as many slices, with these shares.
inline NodePlan sliced_plan(const std::vector<uint32_t>& weights) {
  NodePlan plan;
  plan.mode = NumaMode::distribute;
  for (const uint32_t weight : weights) {
    plan.slices.push_back(
        {.nodes = {0}, .weight = weight, .cores = {{0}, {1}, {2}}, .n_default = 1});
  }
  return plan;
}
inline NodePlan sliced_plan(size_t n_slices) {
  return sliced_plan(std::vector<uint32_t>(n_slices, 1));
}

/// The panels of a packed weight, where a plan has them.
class CutWeight {
 public:
  CutWeight(const Weight& packed, const NodePlan& plan, uint32_t n_parts = 1)
      : weight_(packed),
        exponents_(packed.exponents, packed.exponents + packed_panels(packed)),
        layout_({prepare(n_parts)}, &plan),
        arena_(node_shares(plan, layout_.slice_bytes()), "the test's weight") {
    layout_.place(arena_, exponents_.data());
    const uint64_t size = panel_bytes(packed.type(), packed.n_cols());
    for (const auto& slice : layout_.pieces()) {
      for (const PanelLayout::Piece& piece : slice) {
        std::copy_n(packed.panels + piece.begin * size, piece.n_bytes(), piece.to);
      }
    }
  }
  CutWeight(const CutWeight&) = delete;
  CutWeight& operator=(const CutWeight&) = delete;

  const Weight& weight() const { return weight_; }

 private:
  Weight* prepare(uint32_t n_parts) {
    weight_.panels = nullptr;
    weight_.n_parts = n_parts;
    return &weight_;
  }

  Weight weight_;
  std::vector<int8_t> exponents_;
  PanelLayout layout_;
  NodeArena arena_;
};

}  // namespace hybrid::test
