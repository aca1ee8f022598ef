#pragma once
// What stands before and behind attention on latents, for a single token, from weights prepared for
// it at load: at the speed of memory.
//
//   absorbed keys   W_h^T of each head as F16, rounded once from the file's blocks: a product along
//                   its rows wants it transposed, and 2^-12 is far below the rounding of
//                   activations to bytes (a copy as Q8_0, as others make, costs 1e-3 of the logits)
//   values          V_h of each head, the file's own blocks in panels

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

}  // namespace hybrid
