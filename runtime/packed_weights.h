#pragma once
// The packed copy of a model's weights: which tensors are packed, and the memory they live in.

#include <optional>
#include <string>
#include <vector>

#include "numa/workers.h"
#include "runtime/load_step.h"
#include "runtime/panel_layout.h"
#include "runtime/weights.h"

namespace hybrid {

/// The matrices that products read in panels: all but F32 ones (the router) and those of `kept`, in
/// the order of the layers.
std::vector<Weight*> packable_weights(ModelWeights& weights, const TensorSet& kept = {});
std::vector<const Weight*> packable_weights(const ModelWeights& weights,
                                            const TensorSet& kept = {});

class PackedWeights {
 public:
  /// The memory nodes that panels are cut over, and bound to; before what follows. The plan
  /// outlives it. Without one they are in one memory, wherever the system puts it.
  void set_nodes(const NodePlan* nodes) { nodes_ = nodes; }

  /// Bytes taken; 0 before pack().
  uint64_t n_bytes() const { return arena_.n_bytes() + exponents_.size(); }
  /// What was obtained of the memory nodes.
  NodeArena::Report report() const { return arena_.report(); }

  /// Packs all but `kept` on all workers, straight from the mapped file into memory of its own, and
  /// makes the weights point to it. The pages of the file are given back as they are done with.
  /// Throws Error with the figures where the machine has not enough memory.
  void pack(ModelWeights& weights, const TensorSet& kept, Workers& workers,
            const LoadProgress& progress);

  /// The same of `all` from the model's cache, where there is a valid one (panel_cache_paths());
  /// otherwise packs. Why a cache that is there was not used is added to `notes`; a cache holds all
  /// weights, so it is used for whole models alone.
  void load(const GgufFile& model, const std::vector<Weight*>& all, bool is_whole_model,
            Workers& workers, const LoadProgress& progress, std::vector<std::string>& notes);

  /// What PanelCacheWriter::write() takes.
  PanelMemory memory() { return layout_->memory(arena_, exponents_); }

 private:
  void take(const std::vector<Weight*>& all, int n_threads);
  void fill(Workers& workers, const LoadProgress& progress);

  const NodePlan* nodes_ = nullptr;
  std::optional<PanelLayout> layout_;
  NodeArena arena_;
  std::vector<int8_t> exponents_;
};

}  // namespace hybrid
