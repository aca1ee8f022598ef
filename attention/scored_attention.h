#pragma once
// Attention with all scores of a step in memory (K*Q): products of queries with keys, a softmax
// over each whole row, products with values. A step is as many heads as their scores have room for;
// where one head alone has none, some of its queries.

#include <cstdint>

#include "attention/block_attention.h"
#include "base/rounding.h"

namespace hybrid {

/// How one micro-batch is cut into steps.
struct ScoreSteps {
  uint32_t n_heads = 0;   // of a step
  uint32_t n_tokens = 0;  // of a step; below all of them only where n_heads is 1

  uint64_t n_steps(uint32_t all_heads, uint32_t all_tokens) const {
    return uint64_t{divide_up(all_heads, n_heads)} * divide_up(all_tokens, n_tokens);
  }
};

/// Bytes of the scores of one query and head over n_kv keys.
uint64_t score_row_bytes(uint64_t n_kv);

/// heads = floor(limit / one head's need). max_bytes 0: no limit. n_tokens is 0 where not even one
/// row has room. row_bytes: of a query and head, head_bytes: of a head beside its rows.
ScoreSteps fit_score_steps(uint32_t n_heads, uint32_t n_tokens, uint64_t row_bytes,
                           uint64_t head_bytes, uint64_t max_bytes);
/// The same with rows of score_row_bytes() alone.
ScoreSteps score_steps(uint32_t n_heads, uint32_t n_tokens, uint64_t n_kv, uint64_t max_bytes);

/// scores: max_bytes, or what all heads and queries need where that is 0 or less. Parallel over
/// groups of queries and ranges of keys or of dimensions. Neither threads nor steps change a bit.
void scored_attention(const AttentionArgs& args, KeyBlock& block, FillBlock fill, float* scores,
                      uint64_t max_bytes, Workers& workers);
/// What each thread keeps, with blocks of n_positions.
uint64_t scored_thread_bytes(const AttentionDims& dims, uint32_t n_positions);

}  // namespace hybrid
