#pragma once
// What a step through the model reads from memory, by arithmetic: each matrix it multiplies with
// once, and the rows of the cache once. Divided by the time it says how near to the memory's
// bandwidth a step comes. Caches may save some of these reads (a small model fits into them), and a
// kernel may read more; norms, activations and what is written do not count.

#include <cstdint>

#include "runtime/model.h"

namespace hybrid {

/// Experts that n_tokens need together if each token's choice is independent and uniform:
/// n_experts * (1 - (1 - n_used / n_experts)^n_tokens). For one token that is n_used.
double expected_experts(const MoeShape& shape, uint64_t n_tokens);

struct StepShape {
  uint64_t n_past = 0;      // tokens in the cache before the step
  uint64_t n_tokens = 1;    // of one micro-batch
  bool with_logits = true;  // it reads the output matrix, too
};

/// All matrices of all layers once, of the routed experts as many as expected_experts(); the
/// tokens' rows of token_embd; n_past + n_tokens cache rows in each layer.
uint64_t step_bytes(const Model& model, const AttentionOptions& attention, const StepShape& step);

/// One token where attention reads n_ctx_tokens cache rows, its own among them (at least 1).
uint64_t decode_bytes(const Model& model, const AttentionOptions& attention, uint64_t n_ctx_tokens);

/// A prompt of n_tokens into an empty cache: handed over in batches, each cut into micro-batches,
/// with logits for the last token.
uint64_t prefill_bytes(const Model& model, const AttentionOptions& attention, uint64_t n_tokens,
                       uint64_t n_batch, uint64_t n_ubatch);

}  // namespace hybrid
