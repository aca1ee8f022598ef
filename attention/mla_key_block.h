#pragma once
// Keys and values of a block of positions, materialised for all heads from the latents in the
// cache. With W_h the nope rows of head h and V_h its value rows, for each position p of the block:
//
//   k_nope_h[p] = W_h latent_p    v_h[p] = V_h latent_p    k_rope[p]: from the cache, for all heads
//
// They are laid out as panels (tensor/panel_f32.h): lanes of keys are positions, lanes of values
// are dimensions, so scores and weighted sums over values are products of rows with panels. All
// panels are prepared ones.

#include <cstdint>

#include "attention/kv_cache.h"
#include "attention/mla_shape.h"
#include "numa/workers.h"
#include "tensor/aligned_floats.h"
#include "tensor/panel_f32.h"

namespace hybrid {

class MlaKeyBlock {
 public:
  /// Positions of a block: enough that decoding the projection for each block does not show, few
  /// enough that 128 heads take 128 MiB.
  static constexpr uint32_t kPositions = 1024;

  /// Takes the memory; pages come from the system as they are written.
  explicit MlaKeyBlock(const MlaShape& shape);
  static uint64_t n_bytes(const MlaShape& shape);

  /// Fills the block for positions [first, first + n) of a layer, n <= kPositions. Parallel over
  /// heads and positions; each element is one sum in the order of panel_matmul.
  void fill(const MlaUpProjection& up, const KvCache& cache, uint32_t layer, uint32_t first,
            uint32_t n, Workers& workers);

  uint32_t first() const { return first_; }
  uint32_t n_positions() const { return n_; }

  // Panels of 16 positions from position first() + 16 * panel on, lanes beyond n_positions() 0:
  const float* rope_panels(uint64_t panel) const { return rope_.data() + panel * rope_stride(); }
  uint64_t rope_stride() const { return prepared_cols(shape_.qk_rope) * kPanelLanes; }
  const float* key_panels(uint64_t head, uint64_t panel) const {
    return keys_.data() + (head * kPanels + panel) * key_stride();
  }
  uint64_t key_stride() const { return key_stride(shape_); }

  /// Panels of 16 dimensions of v, from position first() + offset, a multiple of kPreparedCols, on.
  const float* value_panels(uint64_t head, uint64_t offset) const {
    return values_.data() + head * values_per_head(shape_) + offset * kPanelLanes;
  }
  uint64_t value_stride() const { return kPositions * kPanelLanes; }

 private:
  static constexpr uint64_t kPanels = kPositions / kPanelLanes;
  static_assert(kPositions % kPreparedCols == 0);
  static uint64_t key_stride(const MlaShape& shape) {
    return prepared_cols(shape.qk_nope) * kPanelLanes;
  }
  static uint64_t keys_per_head(const MlaShape& shape) { return kPanels * key_stride(shape); }
  static uint64_t values_per_head(const MlaShape& shape) {
    return n_panels_of(shape.v_dim) * kPositions * kPanelLanes;
  }
  void load_latents(const KvCache& cache, uint32_t layer, uint64_t panel);
  void fill_head(const MlaUpProjection& up, uint32_t head, uint64_t first_panel, uint64_t n_panels);

  MlaShape shape_;
  uint32_t first_ = 0, n_ = 0;
  // Each kv_lora, qk_rope and qk_nope here stands for its prepared_cols().
  AlignedFloats rows_;     // [kPositions][kv_lora]: the latents as rows
  AlignedFloats latents_;  // the same as panels of positions, [kPanels][kv_lora][16]
  AlignedFloats rope_;     // [kPanels][qk_rope][16]
  AlignedFloats keys_;     // [n_heads][kPanels][qk_nope][16]
  AlignedFloats values_;   // [n_heads][panels of v_dim][kPositions][16]
};

}  // namespace hybrid
