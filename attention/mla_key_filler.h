#pragma once
// Keys and values of all heads made from the latents in the cache, block by block. With W_h the
// nope rows of head h and V_h its value rows, for each position p of a block:
//
//   own part of key_h[p] = W_h latent_p    shared part: the rotary key    value_h[p] = V_h latent_p

#include <cstdint>

#include "attention/key_block.h"
#include "attention/mla_shape.h"

namespace hybrid {

class MlaKeyFiller {
 public:
  /// Takes the memory for blocks of up to n_positions.
  MlaKeyFiller(const MlaShape& shape, uint32_t n_positions);
  static uint64_t n_bytes(const MlaShape& shape, uint32_t n_positions);
  uint64_t held_bytes() const { return rows_.n_bytes() + latents_.n_bytes(); }
  /// What each thread keeps beside the rows of a head.
  static uint64_t thread_bytes(const MlaShape& shape);

  /// Parallel over heads and positions; each element is one sum in the order of panel_matmul.
  void fill(KeyBlock& block, BlockParts parts, const MlaUpProjection& up, const KvCache& cache,
            uint32_t layer, uint32_t head, uint32_t n_heads, uint32_t first, uint32_t n,
            Workers& workers);

 private:
  void load_latents(KeyBlock& block, BlockParts parts, const KvCache& cache, uint32_t layer,
                    uint64_t panel);
  void fill_keys(KeyBlock& block, const MlaUpProjection& up, uint32_t head, uint64_t first_panel,
                 uint64_t n_panels) const;
  void fill_values(KeyBlock& block, const MlaUpProjection& up, uint32_t head, uint64_t first_panel,
                   uint64_t n_panels) const;
  uint64_t latent_cols() const { return prepared_cols(shape_.kv_lora); }

  MlaShape shape_;
  AlignedFloats rows_;     // [n_positions][latent_cols]: the latents as rows
  AlignedFloats latents_;  // the same as panels of positions, [panels][latent_cols][16]
};

}  // namespace hybrid
