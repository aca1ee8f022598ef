#pragma once
// What stands before and behind attention on latents, for a single token, from weights prepared for
// it at load: at the speed of memory.
//
//   absorbed keys   W_h^T of each head as F16, rounded once from the file's blocks: a product along
//                   its rows wants it transposed, and 2^-12 is far below the rounding of
//                   activations to bytes (a copy as Q8_0, as others make, costs 1e-3 of the logits)
//   values          V_h of each head, the file's own blocks in panels
//
// GPUs take them for any number of tokens.

#include <cstdint>

#include "attention/mla_shape.h"
#include "numa/workers.h"
#include "tensor/panel.h"

namespace hybrid {

struct MlaDecodeWeights {
  PanelMatrix absorbed_keys;  // F16 {qk_nope, n_heads * kv_lora}
  PanelMatrix values;         // {kv_lora, n_heads * v_dim}

  bool empty() const { return absorbed_keys.empty(); }
};

/// Bytes and panels that the weights of one layer take; 0 where they cannot be made: dimensions
/// that are no multiples of 16, or F32 projections, which stay exact.
uint64_t mla_decode_bytes(const MlaShape& shape, const MlaUpProjection& up);
uint64_t mla_decode_panels(const MlaShape& shape, const MlaUpProjection& up);

/// Makes head `head` of them. The pointers of `weights` are set by the caller to memory of that
/// size; heads may be made by different threads at a time.
void make_mla_decode_head(const MlaShape& shape, const MlaUpProjection& up, uint32_t head,
                          const MlaDecodeWeights& weights);

/// `weights` with pointers into `panels` and `exponents`.
MlaDecodeWeights place_mla_decode(const MlaShape& shape, const MlaUpProjection& up,
                                  std::byte* panels, int8_t* exponents);

// absorb_queries() and project_values() (attention/mla_projection.h) of one token from these
// weights. Parallel over heads; each head is computed alone.
void absorb_query(const MlaShape& shape, const MlaDecodeWeights& weights, const float* q, float* to,
                  Workers& workers);
void project_values(const MlaShape& shape, const MlaDecodeWeights& weights, const float* latents,
                    float* to, Workers& workers);
/// What each thread keeps for them.
uint64_t mla_decode_thread_bytes(const MlaShape& shape);

// What GPUs take beside these: W_h of each head in panels, for the keys of prefill (its values come
// from the weights above). The file's own blocks, or, where it has attn_k_b alone, F16 made of
// those: rounded to bf16 they are multiplied anyway.

/// {kv_lora, n_heads * qk_nope} in memory of mla_key_bytes(), without exponents. Empty where
/// mla_decode_bytes() is 0, or qk_nope is no multiple of 16.
PanelMatrix place_mla_keys(const MlaShape& shape, const MlaUpProjection& up, std::byte* panels);
uint64_t mla_key_bytes(const MlaShape& shape, const MlaUpProjection& up);

/// Makes head `head` of them, as make_mla_decode_head().
void make_mla_key_head(const MlaShape& shape, const MlaUpProjection& up, uint32_t head,
                       const PanelMatrix& keys);

}  // namespace hybrid
