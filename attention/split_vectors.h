#pragma once
// A chunk of split_attention with vectors, at every level and for all kinds of rows.

#include <cstddef>
#include <cstdint>

#include "attention/running_softmax.h"
#include "tensor/aligned_floats.h"
#include "tensor/row_products.h"

namespace hybrid {

struct VectorChunkArgs {
  FloatRows keys, values;               // of n_positions
  uint32_t n_positions = 0;             // in [1, VectorAttention::kPositions]
  const uint32_t* n_visible = nullptr;  // [n_queries]: how many of the positions each sees
  const std::byte* next = nullptr;      // cached rows that come next, or null: they are prefetched
  uint64_t next_bytes = 0;
};

/// The running softmax and sums of up to kMaxQueries queries. The same interface as TileAttention.
class VectorAttention {
 public:
  static constexpr uint32_t kMaxQueries = 64;
  static constexpr uint32_t kPositions = 32;  // of a call of add(): they stay in the L2 cache

  /// Forgets what was before. q: [n_queries][key_dim], scaled; it must stay until the last add().
  void begin(const float* q, uint32_t n_queries, uint32_t key_dim, uint32_t value_dim);

  /// Adds the share of some positions.
  void add(const VectorChunkArgs& args);

  /// What begin() takes.
  static uint64_t n_bytes(uint64_t value_dim) {
    return kMaxQueries * ((kPositions + value_dim) * sizeof(float) + sizeof(RunningSoftmax));
  }

  float max(uint32_t query) const { return softmax_[query].max; }
  float sum(uint32_t query) const { return static_cast<float>(softmax_[query].sum); }
  /// [value_dim]: the sum of exp(score - max) * value
  void copy_sums(uint32_t query, float* to) const;

 private:
  void add_scores(const VectorChunkArgs& args);

  const float* q_ = nullptr;
  uint32_t n_queries_ = 0, key_dim_ = 0, value_dim_ = 0;
  RunningSoftmax softmax_[kMaxQueries];
  AlignedFloats scores_;  // [queries][kPositions]
  AlignedFloats sums_;    // [queries][value_dim]
};

}  // namespace hybrid
