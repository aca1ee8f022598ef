#pragma once
// The prepared attention weights of all layers for single tokens (attention/mla_decode.h).

#include <vector>

#include "numa/huge_buffer.h"
#include "numa/workers.h"
#include "runtime/model_placement.h"
#include "runtime/weights.h"

namespace hybrid {

class DecodeWeights {
 public:
  /// Makes them on all workers, from the mapped file, and lets the `decode` of each layer of the
  /// CPU point to them; a layer of which they cannot be made keeps none. Throws Error with the
  /// figures where the machine has not enough memory.
  void make(const MlaShape& mla, ModelWeights& weights, const ModelPlacement& placement,
            Workers& workers);

  uint64_t n_bytes() const { return panels_.n_bytes() + exponents_.size(); }

 private:
  void take(const MlaShape& mla, std::span<LayerWeights* const> layers);

  HugeBuffer panels_;
  std::vector<int8_t> exponents_;
};

}  // namespace hybrid
