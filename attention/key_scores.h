#pragma once
// Products of queries with a KeyBlock.

#include <cstdint>

#include "attention/key_block.h"

namespace hybrid {

/// Positions [offset, offset + n) of a block, for one head.
struct KeyRange {
  const KeyBlock& block;
  uint32_t head = 0;
  uint32_t offset = 0, n = 0;  // offset: a multiple of kPanelLanes

  uint32_t first() const { return block.first() + offset; }
};

/// scores[i * stride + p] = q_i . key_p for all keys of the range, n rounded up to 16 of them. q:
/// [n_queries][own_dim + shared_dim].
void compute_scores(const KeyRange& keys, const float* q, uint32_t n_queries, float* scores,
                    uint64_t stride);

/// sums[i * value_dim + d] = sum over the range's p of weights[i * stride + p] * value_p[d].
/// keys.offset: a multiple of kPreparedCols.
void sum_values(const KeyRange& keys, const float* weights, uint32_t n_queries, uint64_t stride,
                float* sums);

}  // namespace hybrid
