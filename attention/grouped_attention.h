#pragma once
// Grouped-query attention over cached rows, in the form that suits the call: few queries over
// chunks of the cache (split_attention.h), many over blocks of panels (block_attention.h), or,
// without flash, with K*Q in memory (scored_attention.h).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/attention_options.h"
#include "attention/scored_attention.h"
#include "attention/split_attention.h"

namespace hybrid {

/// Fewer queries than this are attended over chunks of the cache (with flash).
inline constexpr uint32_t kMinBlockQueries = 16;

/// A block of at most max_bytes: as many heads as have room, or, where one has not, fewer
/// positions. No positions where 32 of one head have no room, either. max_bytes 0: no limit.
KeyBlock::Shape fit_block(KeyBlock::Shape shape, uint64_t max_bytes, uint32_t n_ctx);

/// Positions of a block: enough that loading it does not show, few enough that 128 heads of
/// DeepSeek's take 128 MiB.
inline constexpr uint32_t kBlockPositions = 1024;

class GroupedAttention {
 public:
  struct Sizes {
    AttentionDims dims;
    uint32_t n_ctx = 0;
    uint32_t max_cached_tokens = 0;  // of a call that takes its keys from the cache
    uint32_t max_filled_tokens = 0;  // of a call that makes them
  };

  /// Takes the memory. Throws Error where max_scratch_bytes has no room for the scores of one
  /// query.
  GroupedAttention(const Sizes& sizes, const AttentionOptions& options);
  static uint64_t n_bytes(const Sizes& sizes, const AttentionOptions& options);
  /// What each thread keeps at most. filled: the dimensions of calls that make their keys.
  static uint64_t thread_bytes(const Sizes& sizes, const AttentionDims& filled,
                               const AttentionOptions& options);
  /// Why the constructor would throw; "" where it would not.
  static std::string refusal(const Sizes& sizes, const AttentionOptions& options);
  uint64_t held_bytes() const;  // what has really been taken

  /// Keys and values from the cache.
  void attend(const AttentionArgs& args, const KvCache& cache, Workers& workers);

  /// Keys and values as `fill` makes them.
  void attend(const AttentionArgs& args, KeyBlock& block, FillBlock fill, Workers& workers);

 private:
  AttentionOptions options_;
  std::unique_ptr<SplitScratch> split_;
  std::unique_ptr<KeyBlock> block_;
  std::vector<RunningSoftmax> softmax_;
  AlignedFloats scores_;
  uint64_t scores_bytes_ = 0;
};

/// Bytes of the largest K*Q; 0 with flash. Throws Error where they do not fit 64 bits.
uint64_t scores_bytes(const GroupedAttention::Sizes& sizes, const AttentionOptions& options);

/// The cache of a model whose heads have keys and values of their own.
KvCache::Shape grouped_cache_shape(const AttentionDims& dims, uint32_t n_rotary, uint32_t n_layers,
                                   uint32_t n_ctx, const AttentionOptions& options);

}  // namespace hybrid
