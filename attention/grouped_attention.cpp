#include "attention/grouped_attention.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"

namespace hybrid {
namespace {

bool uses_split(const GroupedAttention::Sizes& s, const AttentionOptions& options) {
  return options.flash && s.max_cached_tokens > 0;
}

bool uses_block(const GroupedAttention::Sizes& s, const AttentionOptions& options) {
  return s.max_cached_tokens >= (options.flash ? kMinBlockQueries : 1);
}

uint32_t max_split_tokens(const GroupedAttention::Sizes& s) {
  return std::min(s.max_cached_tokens, kMinBlockQueries - 1);
}

/// Blocks of cached rows: not what max_scratch_bytes is about, but they keep to it where they can.
KeyBlock::Shape cache_block(const GroupedAttention::Sizes& s, const AttentionOptions& options) {
  const KeyBlock::Shape shape{
      .n_heads = s.dims.n_kv_heads, .own_dim = s.dims.key_dim, .value_dim = s.dims.value_dim};
  KeyBlock::Shape fitting = fit_block(shape, options.max_scratch_bytes, s.n_ctx);
  fitting.n_positions = std::max<uint32_t>(fitting.n_positions, kPreparedCols);
  return fitting;
}

/// Of block_attention.
uint64_t n_softmax(const GroupedAttention::Sizes& s, const AttentionOptions& options) {
  if (!options.flash) return 0;
  const uint32_t n_cached = s.max_cached_tokens < kMinBlockQueries ? 0 : s.max_cached_tokens;
  return uint64_t{s.dims.n_heads} * std::max(n_cached, s.max_filled_tokens);
}

}  // namespace

KeyBlock::Shape fit_block(KeyBlock::Shape shape, uint64_t max_bytes, uint32_t n_ctx) {
  constexpr uint32_t kStep = kPreparedCols;
  shape.n_positions = std::min(kBlockPositions, round_up(n_ctx, kStep));
  if (max_bytes == 0) return shape;
  if (const uint64_t n_heads = max_bytes / shape.head_bytes(); n_heads > 0) {
    shape.n_heads = static_cast<uint32_t>(std::min<uint64_t>(shape.n_heads, n_heads));
    return shape;
  }
  shape.n_heads = 1;
  while (shape.n_positions > 0 && shape.head_bytes() > max_bytes) shape.n_positions -= kStep;
  return shape;
}

uint64_t scores_bytes(const GroupedAttention::Sizes& s, const AttentionOptions& options) {
  if (options.flash) return 0;
  const uint64_t n_queries =
      uint64_t{s.dims.n_heads} * std::max(s.max_cached_tokens, s.max_filled_tokens);
  const uint64_t limit = options.max_scratch_bytes / sizeof(float) * sizeof(float);
  uint64_t all = 0;
  if (checked_mul(score_row_bytes(s.n_ctx), n_queries, all)) {
    return options.max_scratch_bytes == 0 ? all : std::min(all, limit);
  }
  if (options.max_scratch_bytes != 0) return limit;
  fail("-amb 0: the scores of {} queries over {} tokens are beyond any memory; set a limit",
       n_queries, s.n_ctx);
}

uint64_t GroupedAttention::n_bytes(const Sizes& s, const AttentionOptions& options) {
  uint64_t n = n_softmax(s, options) * sizeof(RunningSoftmax) + scores_bytes(s, options);
  if (uses_split(s, options)) {
    n += SplitScratch::n_bytes(s.dims, max_split_tokens(s), s.n_ctx, options.max_scratch_bytes);
  }
  if (uses_block(s, options)) n += cache_block(s, options).n_bytes();
  return n;
}

uint64_t GroupedAttention::thread_bytes(const Sizes& s, const AttentionDims& filled,
                                        const AttentionOptions& options) {
  const AttentionDims widest{s.dims.n_heads, s.dims.n_kv_heads,
                             std::max(s.dims.key_dim, filled.key_dim),
                             std::max(s.dims.value_dim, filled.value_dim)};
  const bool values_in_keys = options.mla != MlaMode::standard;
  uint64_t n = 0;
  if (uses_split(s, options))
    n += SplitScratch::thread_bytes(s.dims, values_in_keys, options.key_type);
  if (uses_block(s, options)) n += fill_thread_bytes(s.dims.key_dim, s.dims.value_dim);
  if (!options.flash) {
    n += scored_thread_bytes(widest, std::min(kBlockPositions, round_up(s.n_ctx, kPreparedCols)));
  } else if (uses_block(s, options) || s.max_filled_tokens > 0) {
    n += block_thread_bytes(widest);
  }
  return n;
}

std::string GroupedAttention::refusal(const Sizes& s, const AttentionOptions& options) {
  const uint64_t n_bytes = scores_bytes(s, options);
  if (options.flash || n_bytes >= score_row_bytes(s.n_ctx)) return {};
  return fmt::format(
      "-amb: the limit of {} has no room for the scores of one query and head over {} tokens, {}; "
      "raise it, or use -fa 1",
      format_bytes(n_bytes), s.n_ctx, format_bytes(score_row_bytes(s.n_ctx)));
}

uint64_t GroupedAttention::held_bytes() const {
  return softmax_.capacity() * sizeof(RunningSoftmax) + scores_.n_bytes() +
         (split_ ? split_->held_bytes() : 0) + (block_ ? block_->held_bytes() : 0);
}

GroupedAttention::GroupedAttention(const Sizes& s, const AttentionOptions& options)
    : options_(options), softmax_(n_softmax(s, options)), scores_bytes_(scores_bytes(s, options)) {
  if (const std::string reason = refusal(s, options); !reason.empty()) throw Error(reason);
  scores_.reserve(scores_bytes_ / sizeof(float));
  if (uses_split(s, options)) {
    split_ = std::make_unique<SplitScratch>(s.dims, max_split_tokens(s), s.n_ctx,
                                            options.max_scratch_bytes);
  }
  if (uses_block(s, options)) block_ = std::make_unique<KeyBlock>(cache_block(s, options));
}

void GroupedAttention::attend(const AttentionArgs& args, const KvCache& cache, Workers& workers) {
  HYBRID_CHECK(cache.shape().n_heads == args.dims.n_kv_heads);
  HYBRID_CHECK(cache.shape().key.dim() == args.dims.key_dim);
  HYBRID_CHECK(args.n_kv() <= cache.shape().n_ctx);
  if (options_.flash && args.n_tokens < kMinBlockQueries) {
    return split_attention(args, cache, *split_, workers);
  }
  HYBRID_CHECK(block_ != nullptr);
  attend(
      args, *block_,
      [&](KeyBlock& block, BlockParts parts, uint32_t head, uint32_t n_heads, uint32_t first,
          uint32_t n) {
        fill_from_cache(block, parts, cache, args.layer, head, n_heads, first, n, workers);
      },
      workers);
}

void GroupedAttention::attend(const AttentionArgs& args, KeyBlock& block, FillBlock fill,
                              Workers& workers) {
  if (options_.flash) return block_attention(args, block, fill, softmax_, workers);
  scored_attention(args, block, fill, scores_.data(), scores_bytes_, workers);
}

KvCache::Shape grouped_cache_shape(const AttentionDims& dims, uint32_t n_rotary, uint32_t n_layers,
                                   uint32_t n_ctx, const AttentionOptions& options) {
  KvCache::Shape shape;
  shape.n_layers = n_layers;
  shape.n_ctx = n_ctx;
  shape.n_heads = dims.n_kv_heads;
  shape.key = {options.key_type, dims.key_dim - n_rotary, n_rotary};
  shape.value = {options.value_type, dims.value_dim, 0};
  return shape;
}

}  // namespace hybrid
