#pragma once
// Keys and values of a block of positions as panels (tensor/panel_f32.h): lanes of keys are
// positions, lanes of values are dimensions, so that scores and weighted sums over values are
// products of rows with panels. All panels are prepared ones.

#include <algorithm>
#include <cstdint>

#include "attention/kv_cache.h"
#include "numa/workers.h"
#include "tensor/aligned_floats.h"
#include "tensor/panel_f32.h"

namespace hybrid {

/// Which of a block is to be filled.
struct BlockParts {
  bool keys = true, values = true;
};

class KeyBlock {
 public:
  struct Shape {
    uint32_t n_heads = 0;     // of keys that the block holds at a time
    uint32_t own_dim = 0;     // the part of a key that each head has for itself
    uint32_t shared_dim = 0;  // the part behind it that all heads share
    uint32_t value_dim = 0;
    uint32_t n_positions = 0;  // at most; a multiple of kPreparedCols

    uint64_t key_stride() const { return prepared_cols(own_dim) * kPanelLanes; }
    uint64_t shared_stride() const { return prepared_cols(shared_dim) * kPanelLanes; }
    uint64_t value_stride() const { return uint64_t{n_positions} * kPanelLanes; }
    uint64_t n_panels() const { return n_positions / kPanelLanes; }
    uint64_t keys_per_head() const { return n_panels() * key_stride(); }
    uint64_t values_per_head() const { return n_panels_of(value_dim) * value_stride(); }
    /// Of the keys and values of one head.
    uint64_t head_bytes() const { return (keys_per_head() + values_per_head()) * sizeof(float); }
    uint64_t n_bytes() const {
      return n_heads * head_bytes() + n_panels() * shared_stride() * sizeof(float);
    }
  };

  /// Takes the memory; pages come from the system as they are written.
  explicit KeyBlock(const Shape& shape);

  const Shape& shape() const { return shape_; }
  uint64_t held_bytes() const { return keys_.n_bytes() + shared_.n_bytes() + values_.n_bytes(); }

  /// The positions [first, first + n) and heads from `head` on that the block holds from now on.
  void begin(uint32_t head, uint32_t first, uint32_t n);
  uint32_t first() const { return first_; }
  uint32_t n_positions() const { return n_; }

  // Of head `head`, counted as the model does. Panels of 16 positions from position
  // first() + 16 * panel on; lanes beyond n_positions() are 0.
  float* key_panels(uint64_t head, uint64_t panel) const {
    return keys_.data() + (head - head_) * shape_.keys_per_head() + panel * shape_.key_stride();
  }
  float* shared_panels(uint64_t panel) const {
    return shared_.data() + panel * shape_.shared_stride();
  }
  /// Panels of 16 dimensions, from position first() + offset, a multiple of kPreparedCols, on.
  float* value_panels(uint64_t head, uint64_t offset) const {
    return values_.data() + (head - head_) * shape_.values_per_head() + offset * kPanelLanes;
  }

 private:
  Shape shape_;
  uint32_t head_ = 0, first_ = 0, n_ = 0;
  AlignedFloats keys_;    // [n_heads][n_panels][own_dim][16]
  AlignedFloats shared_;  // [n_panels][shared_dim][16]
  AlignedFloats values_;  // [n_heads][panels of value_dim][n_positions][16]
};

/// Fills a block with rows of the cache: positions [first, first + n), heads [head, head +
/// n_heads). Where values are in the keys they are the first value_dim elements of these, or come
/// from the transposed copy, if there is one. Parallel over heads and positions. Each thread keeps
/// rows of 32 positions (fill_thread_bytes()).
void fill_from_cache(KeyBlock& block, BlockParts parts, const KvCache& cache, uint32_t layer,
                     uint32_t head, uint32_t n_heads, uint32_t first, uint32_t n, Workers& workers);
uint64_t fill_thread_bytes(uint64_t key_dim, uint64_t value_dim);

}  // namespace hybrid
