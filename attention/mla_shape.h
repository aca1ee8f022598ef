#pragma once
// The dimensions of multi-head latent attention (DeepSeek V2/V3), and where its projections lie.

#include <cstdint>

#include "tensor/tensor_view.h"

namespace hybrid {

struct MlaShape {
  uint32_t n_heads = 0;
  uint32_t qk_nope = 128;  // per head: the part of q and k without position
  uint32_t qk_rope = 64;   // per head for q; one vector shared by all heads for k
  uint32_t v_dim = 128;    // per head
  uint32_t kv_lora = 512;  // the latent a token leaves in the cache
  uint32_t q_lora = 0;     // 0: q comes from one matrix (V2-Lite)

  uint32_t qk_dim() const { return qk_nope + qk_rope; }
  uint32_t cache_row() const { return kv_lora + qk_rope; }
};

/// The up-projection from the latent, in whichever layout the file has. Both are kept as the file's
/// own blocks: transposing a quantised matrix and quantising it again would lose precision.
struct MlaUpProjection {
  /// {kv_lora, n_heads * (qk_nope + v_dim)}: per head first the nope rows of K, then the rows of V.
  TensorView kv_b;
  /// {qk_nope, n_heads * kv_lora}: per head the transpose of kv_b's nope rows. Used without kv_b.
  TensorView k_b;
  /// {kv_lora, n_heads * v_dim}: per head the V rows of kv_b. Used without kv_b.
  TensorView v_b;

  bool is_split() const { return kv_b.empty(); }
};

}  // namespace hybrid
