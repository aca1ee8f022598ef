#pragma once
// Absorbed attention of a single token from weights prepared for it at load: the same function as
// mla_attention_absorbed, at the speed of memory.
//
//   absorbed keys   W_h^T of each head as F16, rounded once from the file's blocks: a product along
//                   its rows wants it transposed, and 2^-12 is far below the rounding of
//                   activations to bytes (a copy as Q8_0, as others make, costs 1e-3 of the logits)
//   values          V_h of each head, the file's own blocks in panels

#include <cstdint>

#include "attention/kv_cache.h"
#include "attention/mla_attention.h"
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

/// args.n_tokens == 1. Parallel over heads; each head is computed alone.
void mla_attention_decode(const MlaAttentionArgs& args, const MlaDecodeWeights& weights,
                          const KvCache& cache, Workers& workers);

}  // namespace hybrid
