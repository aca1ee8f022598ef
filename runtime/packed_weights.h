#pragma once
// The packed copy of a model's weights: which tensors are packed, and the memory they live in.

#include <string>
#include <vector>

#include "numa/huge_buffer.h"
#include "numa/workers.h"
#include "runtime/load_step.h"
#include "runtime/panel_cache.h"
#include "runtime/weights.h"

namespace hybrid {

/// The matrices that products read in panels: all but F32 ones (the router) and those of `kept`, in
/// the order of the layers.
std::vector<Weight*> packable_weights(ModelWeights& weights, const TensorSet& kept = {});
std::vector<const Weight*> packable_weights(const ModelWeights& weights,
                                            const TensorSet& kept = {});

class PackedWeights {
 public:
  /// Bytes taken; 0 before pack().
  uint64_t n_bytes() const { return panels_.n_bytes() + exponents_.size(); }

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

  /// What write_panel_cache() takes.
  PanelMemory memory() { return {{panels_.data(), panels_.n_bytes()}, exponents_}; }

 private:
  void take(const std::vector<Weight*>& all);
  void fill(const std::vector<Weight*>& all, Workers& workers, const LoadProgress& progress);

  HugeBuffer panels_;
  std::vector<int8_t> exponents_;
};

}  // namespace hybrid
