#pragma once
// Attention of few queries over a long cache, cut into chunks of positions that are attended apart
// and then brought together: each chunk has its own running softmax, so all threads have work even
// for a single query, and cached rows go from memory into products without a detour.

#include <cstdint>

#include "attention/attention_args.h"
#include "attention/kv_cache.h"
#include "numa/workers.h"
#include "tensor/aligned_floats.h"

namespace hybrid {

/// How positions are cut: it follows from the call alone, not from threads.
struct SplitPlan {
  uint32_t n_chunks = 1;
  uint32_t n_positions = 0;  // of a chunk but the last
};

/// max_bytes: of the chunks' sums; at least one chunk there is always.
SplitPlan plan_split(const AttentionDims& dims, uint32_t n_tokens, uint32_t n_kv,
                     uint64_t max_bytes);

/// The chunks' sums, taken once.
class SplitScratch {
 public:
  /// For up to max_tokens queries. max_bytes as in plan_split; 0: kMaxBytes, which is the most in
  /// any case but for a single chunk.
  SplitScratch(const AttentionDims& dims, uint32_t max_tokens, uint32_t n_ctx, uint64_t max_bytes);
  static uint64_t n_bytes(const AttentionDims& dims, uint32_t max_tokens, uint32_t n_ctx,
                          uint64_t max_bytes);

  static constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

  uint64_t held_bytes() const { return sums.n_bytes(); }
  /// What each thread keeps, at the level in force. key_type: of the cached rows.
  static uint64_t thread_bytes(const AttentionDims& dims, bool values_in_keys, DType key_type);

  AlignedFloats sums;  // [n_chunks][n_tokens * n_heads][value_dim + 2]
  uint64_t max_bytes;
};

/// Parallel over chunks, heads of keys and groups of queries. Each (query, chunk) is computed alone
/// and in one order, so threads do not change a bit.
void split_attention(const AttentionArgs& args, const KvCache& cache, SplitScratch& scratch,
                     Workers& workers);

}  // namespace hybrid
