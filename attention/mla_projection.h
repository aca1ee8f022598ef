#pragma once
// What stands before and behind attention on latents, from the file's own blocks. With W_h the nope
// rows of head h and V_h its value rows:
//
//   q'[t][h]   = [ W_h^T q_nope[t][h] | q_rope[t][h] ]
//   out[t][h]  = V_h latent[t][h]
//
// Parallel over heads; each element is one sum in the order of panel_matmul.

#include <cstdint>

#include "attention/kv_cache.h"
#include "attention/mla_shape.h"
#include "numa/workers.h"

namespace hybrid {

/// q: [n_tokens][n_heads][qk_nope + qk_rope]; to: [n_tokens][n_heads][kv_lora + qk_rope].
void absorb_queries(const MlaShape& shape, const MlaUpProjection& up, const float* q,
                    uint32_t n_tokens, float* to, Workers& workers);

/// latents: [n_tokens][n_heads][kv_lora]; to: [n_tokens][n_heads][v_dim].
void project_values(const MlaShape& shape, const MlaUpProjection& up, const float* latents,
                    uint32_t n_tokens, float* to, Workers& workers);

/// The cache of -mla 0: keys [ W_h latent | rope ] and values V_h latent of every head. rows:
/// [n_tokens][kv_lora + qk_rope], of positions from `first` on.
void store_heads(const MlaShape& shape, const MlaUpProjection& up, const float* rows,
                 uint32_t n_tokens, KvCache& cache, uint32_t layer, uint32_t first,
                 Workers& workers);

// What each thread keeps for calls of up to n_tokens: for absorb_queries() and project_values()
// together, and for store_heads().
uint64_t projection_thread_bytes(const MlaShape& shape, uint32_t n_tokens);
uint64_t store_thread_bytes(const MlaShape& shape, uint32_t n_tokens);

}  // namespace hybrid
