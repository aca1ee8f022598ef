#pragma once
// Absorbed multi-head latent attention over one latent cache (the mode -mla 2): keys and values are
// never materialised. With W_h the nope rows of head h and V_h its value rows:
//
//   q'_h      = [ W_h^T q_nope_h | q_rope_h ]                       (kv_lora + qk_rope)
//   score_p   = kq_scale * q'_h . row_p          for p = 0 .. position of the query
//   latent_h  = sum_p softmax(score)_p * row_p[0 : kv_lora]
//   out_h     = V_h latent_h                                          (v_dim)

#include <cstdint>

#include "attention/kv_cache.h"
#include "attention/mla_shape.h"
#include "numa/workers.h"

namespace hybrid {

struct MlaAttentionArgs {
  MlaShape shape;
  float kq_scale = 0;
  uint32_t layer = 0;           // of the cache
  uint32_t first_position = 0;  // of query row 0; row t stands at first_position + t
  uint32_t n_tokens = 0;        // query rows; their cache rows have been stored already
  const float* q = nullptr;     // [n_tokens][n_heads][qk_nope + qk_rope], the rope part rotated
  float* out = nullptr;         // [n_tokens][n_heads][v_dim]
  float* latent = nullptr;      // scratch, [n_tokens][n_heads][kv_lora + qk_rope]
};

/// Parallel over heads, and over (token, group of heads). Each (token, head) is computed alone and
/// in one order, so neither threads nor the micro-batch change a bit of it.
void mla_attention_absorbed(const MlaAttentionArgs& args, const MlaUpProjection& up,
                            const KvCache& cache, Workers& workers);

}  // namespace hybrid
