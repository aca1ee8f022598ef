#pragma once
// How attention with scores in memory (-fa 0) is cut on a GPU, and what a step takes: scores
// (float) and weights (bf16) of each head, token and position, and the keys and values (bf16) that
// are made of each head and position. On latents none are made.

#include "attention/score_softmax_cuda.h"
#include "attention/scored_attention.h"

namespace hybrid {

/// Elements between rows of scores; room for so many positions.
inline uint64_t cuda_score_stride(uint64_t n_positions) {
  return round_up(n_positions, uint64_t{kScoreAlignment});
}

struct CudaScoreShape {
  uint32_t n_heads = 0, n_tokens = 0;
  uint32_t made_dim = 0;  // elements of a head's key and value that are made

  /// Of a query and head.
  uint64_t row_bytes(uint64_t n_positions) const {
    return cuda_score_stride(n_positions) * (sizeof(float) + sizeof(bf16_t));
  }
  uint64_t head_bytes(uint64_t n_positions) const {
    return cuda_score_stride(n_positions) * made_dim * sizeof(bf16_t);
  }

  /// max_bytes 0: no limit. n_tokens of the result is 0 where there is no room for one row.
  ScoreSteps steps(uint64_t n_positions, uint64_t max_bytes) const {
    return fit_score_steps(n_heads, n_tokens, row_bytes(n_positions), head_bytes(n_positions),
                           max_bytes);
  }
  /// What steps with this limit take at most, over up to n_positions.
  uint64_t n_bytes(uint64_t n_positions, uint64_t max_bytes) const {
    const uint64_t all =
        n_heads * (head_bytes(n_positions) + row_bytes(n_positions) * uint64_t{n_tokens});
    return max_bytes == 0 || all < max_bytes ? all : max_bytes;
  }
};

}  // namespace hybrid
