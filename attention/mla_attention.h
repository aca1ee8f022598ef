#pragma once
// Multi-head latent attention in all its modes. With W_h the nope rows of head h and V_h its value
// rows:
//
//   k_h,p   = [ W_h latent_p | rope_p ]                                  (qk_nope + qk_rope)
//   score_p = kq_scale * q_h . k_h,p             for p = 0 .. position of the query
//   out_h   = sum_p softmax(score)_p * V_h latent_p                        (v_dim)
//
// Standard: keys and values as above lie in the cache. Absorbed: neither is ever made,
//
//   q'_h      = [ W_h^T q_nope_h | q_rope_h ]    score_p = kq_scale * q'_h . row_p
//   latent_h  = sum_p softmax(score)_p * row_p[0 : kv_lora]     out_h = V_h latent_h
//
// Un-absorbed: they are made from the latents for a block of positions at a time.

#include <cstdint>
#include <memory>

#include "attention/attention_options.h"
#include "attention/grouped_attention.h"
#include "attention/mla_decode.h"
#include "attention/mla_key_filler.h"
#include "attention/mla_shape.h"

namespace hybrid {

/// Multiplications of one layer and head for n_tokens queries behind n_past cached positions.
double absorbed_cost(const MlaShape& shape, uint64_t n_past, uint64_t n_tokens);
double unabsorbed_cost(const MlaShape& shape, uint64_t n_past, uint64_t n_tokens);

/// What the cache of a mode holds.
KvCache::Shape mla_cache_shape(const MlaShape& shape, uint32_t n_layers, uint32_t n_ctx,
                               const AttentionOptions& options);

/// What a mode takes and does, from numbers alone.
class MlaPlan {
 public:
  MlaPlan(const MlaShape& shape, const AttentionOptions& options, uint32_t n_ctx,
          uint32_t max_tokens);

  /// Whether keys and values are made for this call: the mode allows it, there is room, and it
  /// costs fewer multiplications. A single token is always absorbed.
  bool is_unabsorbed(uint64_t n_past, uint64_t n_tokens) const;

  /// The fewest tokens of a micro-batch that are un-absorbed behind n_past positions; 0: never.
  uint32_t min_unabsorbed_tokens(uint32_t n_past) const;

  const MlaShape& shape() const { return shape_; }
  const AttentionOptions& options() const { return options_; }
  GroupedAttention::Sizes sizes() const { return sizes_; }
  const KeyBlock::Shape& unabsorbed_block() const { return block_; }  // n_positions 0: none

  uint64_t unabsorbed_bytes() const;  // keys and values that are made, with the latents as panels
  uint64_t query_bytes() const;       // absorbed queries and their sums
  uint64_t n_bytes() const;           // of the whole scratch
  uint64_t thread_bytes() const;      // beside it, that each thread keeps at most
  std::string refusal() const;        // why the scratch is too small for any step, or ""

 private:
  MlaShape shape_;
  AttentionOptions options_;
  uint32_t max_tokens_;
  KeyBlock::Shape block_;
  GroupedAttention::Sizes sizes_;
};

struct MlaArgs {
  float kq_scale = 0;
  uint32_t layer = 0;           // of the cache
  uint32_t first_position = 0;  // of query 0
  uint32_t n_tokens = 0;        // their rows have been stored already
  const float* q = nullptr;     // [n_tokens][n_heads][qk_nope + qk_rope], the rope part rotated
  float* out = nullptr;         // [n_tokens][n_heads][v_dim]
};

/// The scratch of a micro-batch.
class MlaAttention {
 public:
  /// Takes the memory. Throws Error where max_scratch_bytes is too small for any step.
  explicit MlaAttention(const MlaPlan& plan);

  const MlaPlan& plan() const { return plan_; }
  uint64_t held_bytes() const;  // what has really been taken

  /// Keeps what attention needs of tokens. rows: [n_tokens][kv_lora + qk_rope], of positions from
  /// `first` on.
  void store(const MlaUpProjection& up, const float* rows, uint32_t n_tokens, KvCache& cache,
             uint32_t layer, uint32_t first, Workers& workers) const;

  /// decode: weights for a single token, or none. Threads do not change a bit of a result.
  /// max_scratch_bytes does only where it leaves less room to blocks or chunks of keys.
  void attend(const MlaArgs& args, const MlaUpProjection& up, const MlaDecodeWeights& decode,
              const KvCache& cache, Workers& workers);

 private:
  void attend_absorbed(const MlaArgs& args, const MlaUpProjection& up,
                       const MlaDecodeWeights& decode, const KvCache& cache, Workers& workers);

  MlaPlan plan_;
  GroupedAttention grouped_;
  std::unique_ptr<KeyBlock> block_;       // un-absorbed
  std::unique_ptr<MlaKeyFiller> filler_;  // un-absorbed
  AlignedFloats queries_;                 // absorbed: [n_tokens][n_heads][kv_lora + qk_rope]
  AlignedFloats sums_;                    // absorbed: [n_tokens][n_heads][kv_lora]
};

}  // namespace hybrid
