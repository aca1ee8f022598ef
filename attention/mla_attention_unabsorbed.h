#pragma once
// Multi-head latent attention on materialised keys and values (the prefill of -mla 3). With W_h the
// nope rows of head h and V_h its value rows:
//
//   k_h,p   = [ W_h latent_p | rope_p ]                                  (qk_nope + qk_rope)
//   score_p = kq_scale * q_h . k_h,p             for p = 0 .. position of the query
//   out_h   = sum_p softmax(score)_p * V_h latent_p                        (v_dim)
//
// Keys and values are made for a block of positions at a time (attention/mla_key_block.h), and the
// softmax runs along: maximum and sum of each query are kept, and its sums scaled where the maximum
// grows. So memory does not grow with the context.

#include <cstdint>
#include <vector>

#include "attention/mla_attention.h"
#include "attention/mla_key_block.h"

namespace hybrid {

/// What is kept of a query's softmax between two groups of keys.
struct RunningSoftmax {
  float max = 0;
  double sum = 0;  // of exp(score - max)
};

/// What a micro-batch needs beside its inputs and outputs.
struct MlaUnabsorbedScratch {
  MlaUnabsorbedScratch(const MlaShape& shape, uint64_t max_tokens);
  static uint64_t n_bytes(const MlaShape& shape, uint64_t max_tokens);

  MlaKeyBlock block;
  std::vector<RunningSoftmax> softmax;  // [n_heads][n_tokens]
};

/// args.latent is not used. Parallel over (head, group of queries). Each thread keeps buffers for a
/// head's projection and for 64 queries and their scores, 1 MiB for DeepSeek's shapes. Each
/// (token, head) is computed alone and in one order, so neither threads nor the micro-batch change
/// a bit of it.
void mla_attention_unabsorbed(const MlaAttentionArgs& args, const MlaUpProjection& up,
                              const KvCache& cache, MlaUnabsorbedScratch& scratch,
                              Workers& workers);

}  // namespace hybrid
