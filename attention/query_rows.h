#pragma once
// The queries that share a head of keys, as rows.

#include <algorithm>
#include <cstdint>

#include "attention/attention_args.h"

namespace hybrid {

/// Tokens [first_token, first_token + n_tokens) times heads [first_head, first_head + n_heads), of
/// one head of keys: row i is head i % n_heads of token i / n_heads, so positions grow with rows.
struct QueryRows {
  const AttentionArgs* args = nullptr;
  uint32_t kv_head = 0;
  uint32_t first_token = 0, n_tokens = 0;
  uint32_t first_head = 0, n_heads = 0;

  /// Those of kv_head among heads [head_begin, head_end).
  QueryRows(const AttentionArgs& a, uint32_t kv, uint32_t token_begin, uint32_t token_end,
            uint32_t head_begin, uint32_t head_end)
      : args(&a), kv_head(kv), first_token(token_begin), n_tokens(token_end - token_begin) {
    const uint32_t group = a.dims.group();
    first_head = std::max(head_begin, kv * group);
    n_heads = std::min(head_end, (kv + 1) * group) - first_head;
  }

  uint32_t n_rows() const { return n_tokens * n_heads; }
  uint32_t position(uint32_t row) const {
    return args->first_position + first_token + row / n_heads;
  }
  /// How many of the positions [first, first + n) the row sees.
  uint32_t n_visible(uint32_t row, uint32_t first, uint32_t n) const {
    const uint32_t end = position(row) + 1;
    return end > first ? std::min(n, end - first) : 0;
  }
  /// Of the row among all [n_tokens][n_heads] of args.
  uint64_t slot(uint32_t row) const {
    return uint64_t{first_token + row / n_heads} * args->dims.n_heads + first_head + row % n_heads;
  }
  float* out(uint32_t row) const { return args->out + slot(row) * args->dims.value_dim; }

  /// Rows [first, first + n) without gaps and times args.scale.
  void load_scaled(uint32_t first, uint32_t n, float* to) const {
    const uint64_t dim = args->dims.key_dim;
    for (uint32_t i = 0; i < n; ++i) {
      const float* from = args->q + slot(first + i) * dim;
      for (uint64_t k = 0; k < dim; ++k) to[i * dim + k] = from[k] * args->scale;
    }
  }
};

}  // namespace hybrid
