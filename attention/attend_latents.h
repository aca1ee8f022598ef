#pragma once
// The middle of absorbed attention, on one thread.

#include "attention/mla_attention.h"
#include "tensor/vector_ops.h"

namespace hybrid {

/// Replaces the absorbed query rows in args.latent, of one token and n_heads heads from `head` on,
/// by the attention-weighted sums of the latents up to the token's position.
void attend_latents(const MlaAttentionArgs& args, const KvCache& cache, const VectorOps& ops,
                    uint32_t token, uint32_t head, uint32_t n_heads);

}  // namespace hybrid
