#pragma once
// Where the panels of a model's weights lie: in one memory, in the order of the weights; or, for
// several memory nodes, each matrix cut by output rows, each slice of it in its node's memory. A
// slice's memory holds its panels in the same order.

#include <cstdint>
#include <span>
#include <vector>

#include "numa/node_arena.h"
#include "runtime/panel_cache.h"
#include "tensor/weight.h"

namespace hybrid {

/// What messages call them.
inline constexpr const char* kPackedWeightsName = "the packed weights";

/// Bytes that each slice of a plan holds of these weights, from their types and shapes alone; of
/// all of them in one memory where `nodes` is null.
std::vector<uint64_t> packed_slice_bytes(std::span<const Weight* const> weights,
                                         const NodePlan* nodes);

class PanelLayout {
 public:
  /// `nodes`: null for one memory.
  PanelLayout(std::vector<Weight*> weights, const NodePlan* nodes);

  std::vector<uint64_t> slice_bytes() const;
  uint64_t n_panels() const;

  /// Lets the weights point into memory of slice_bytes(), and to n_panels() exponents.
  void place(NodeArena& arena, int8_t* exponents);

  /// Panels that follow each other in a weight's matrices, and in memory.
  struct Piece {
    const Weight* weight = nullptr;
    uint64_t begin = 0, end = 0;  // of all its matrices' panels, counted through
    std::byte* to = nullptr;

    uint64_t n_bytes() const;
  };
  // Once they are placed:
  /// The pieces of each slice, about 2 MB of the file or less, so that mostly one thread fills a
  /// huge page.
  std::vector<std::vector<Piece>> pieces() const;
  /// The memory, for a cache.
  PanelMemory memory(NodeArena& arena, std::span<int8_t> exponents) const;

 private:
  bool is_cut() const { return nodes_ != nullptr && nodes_->slices.size() > 1; }

  std::vector<Weight*> weights_;
  const NodePlan* nodes_;
  std::vector<PanelRun> runs_;  // of all weights, as Weight::runs has them
};

}  // namespace hybrid
