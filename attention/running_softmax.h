#pragma once
// A softmax that runs along with the keys: sums over values are relative to the largest score so
// far, and are scaled where a larger one comes.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/row_ops.h"

namespace hybrid {

/// What is kept of a query's softmax between two groups of keys.
struct RunningSoftmax {
  float max = -INFINITY;
  double sum = 0;  // of exp(score - max)

  /// Turns a row of n scores into weights relative to the maximum, 0 for keys from n_visible on,
  /// and brings `sums`, [value_dim], of the keys before to that maximum.
  void weigh(const RowOps& ops, float* scores, uint32_t n_visible, uint32_t n, float* sums,
             uint32_t value_dim) {
    std::fill(scores + n_visible, scores + n, 0.0f);
    if (n_visible == 0) return;
    const float before = max;
    max = std::max(before, ops.max(scores, n_visible));
    if (max != before) {
      const float factor = std::exp(before - max);
      sum *= factor;
      ops.scale(sums, factor, value_dim);
    }
    sum += ops.exp_sum(scores, n_visible, max);
  }
};

}  // namespace hybrid
