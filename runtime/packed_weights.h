#pragma once
// The packed copy of a model's weights: which tensors are packed, and the memory they live in.

#include <functional>
#include <vector>

#include "numa/huge_buffer.h"
#include "numa/workers.h"
#include "runtime/weights.h"

namespace hybrid {

/// Told of the bytes done, of all, a few times a second, on the caller's thread.
using LoadProgress = std::function<void(uint64_t n_done, uint64_t n_all)>;

/// The matrices that products read in panels: all but F32 ones (the router), in the order of the
/// layers.
std::vector<Weight*> packable_weights(ModelWeights& weights);

class PackedWeights {
 public:
  /// Bytes taken; 0 before pack().
  uint64_t n_bytes() const { return panels_.n_bytes() + exponents_.size(); }

  /// Packs on all workers, straight from the mapped file into memory of its own, and makes the
  /// weights point to it. The pages of the file are given back as they are done with. Throws Error
  /// with the figures where the machine has not enough memory.
  void pack(const MlaShape& mla, ModelWeights& weights, Workers& workers,
            const LoadProgress& progress);

 private:
  void take(const MlaShape& mla, ModelWeights& weights, const std::vector<Weight*>& all);

  HugeBuffer panels_;
  std::vector<int8_t> exponents_;
};

}  // namespace hybrid
