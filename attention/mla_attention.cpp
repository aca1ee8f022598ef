#include "attention/mla_attention.h"

#include <algorithm>

#include "attention/mla_projection.h"
#include "base/error.h"

namespace hybrid {
namespace {

AttentionDims absorbed_dims(const MlaShape& s) { return {s.n_heads, 1, s.cache_row(), s.kv_lora}; }

AttentionDims standard_dims(const MlaShape& s) {
  return {s.n_heads, s.n_heads, s.qk_dim(), s.v_dim};
}

/// The first n in [first, end) for which `holds`, which then holds for all that follow; or `end`.
template <class Predicate>
uint32_t first_that(uint32_t first, uint32_t end, const Predicate& holds) {
  while (first < end) {
    const uint32_t middle = first + (end - first) / 2;
    if (holds(middle)) {
      end = middle;
    } else {
      first = middle + 1;
    }
  }
  return first;
}

/// Keys that a query sees, on average.
double mean_keys(uint64_t n_past, uint64_t n_tokens) {
  return static_cast<double>(n_past) + (static_cast<double>(n_tokens) + 1) / 2;
}

/// Of one token's query and its sum, or of one position's key and value.
double projection_cost(const MlaShape& s) {
  return static_cast<double>(s.qk_nope + s.v_dim) * s.kv_lora;
}

}  // namespace

double absorbed_cost(const MlaShape& s, uint64_t n_past, uint64_t n_tokens) {
  const double per_key = s.cache_row() + s.kv_lora;
  return static_cast<double>(n_tokens) *
         (mean_keys(n_past, n_tokens) * per_key + projection_cost(s));
}

double unabsorbed_cost(const MlaShape& s, uint64_t n_past, uint64_t n_tokens) {
  const double per_key = s.qk_dim() + s.v_dim;
  return static_cast<double>(n_tokens) * mean_keys(n_past, n_tokens) * per_key +
         static_cast<double>(n_past + n_tokens) * projection_cost(s);
}

KvCache::Shape mla_cache_shape(const MlaShape& s, uint32_t n_layers, uint32_t n_ctx,
                               const AttentionOptions& options) {
  if (options.mla == MlaMode::standard) {
    return grouped_cache_shape(standard_dims(s), s.qk_rope, n_layers, n_ctx, options);
  }
  KvCache::Shape shape;
  shape.n_layers = n_layers;
  shape.n_ctx = n_ctx;
  shape.key = {options.key_type, s.kv_lora, s.qk_rope};
  shape.transposed = options.keeps_transposed();
  return shape;
}

MlaPlan::MlaPlan(const MlaShape& s, const AttentionOptions& options, uint32_t n_ctx,
                 uint32_t max_tokens)
    : shape_(s), options_(options), max_tokens_(max_tokens) {
  if (options.mla == MlaMode::unabsorbed_prefill && max_tokens > 1) {
    block_ = fit_block(
        {.n_heads = s.n_heads, .own_dim = s.qk_nope, .shared_dim = s.qk_rope, .value_dim = s.v_dim},
        options.max_scratch_bytes, n_ctx);
  }
  const bool is_standard = options.mla == MlaMode::standard;
  // The further behind, the more a block of keys costs: what is absorbed there at most. Where a
  // number of tokens is un-absorbed, larger ones are, too.
  const uint32_t max_cached =
      first_that(2, std::max(max_tokens, 1u) + 1,
                 [&](uint32_t n) { return is_unabsorbed(n_ctx - std::min(n_ctx, n), n); }) -
      1;
  sizes_ = {is_standard ? standard_dims(s) : absorbed_dims(s), n_ctx, max_cached,
            block_.n_positions > 0 ? max_tokens : 0};
}

bool MlaPlan::is_unabsorbed(uint64_t n_past, uint64_t n_tokens) const {
  return n_tokens > 1 && block_.n_positions > 0 &&
         unabsorbed_cost(shape_, n_past, n_tokens) < absorbed_cost(shape_, n_past, n_tokens);
}

uint32_t MlaPlan::min_unabsorbed_tokens(uint32_t n_past) const {
  const uint32_t n =
      first_that(2, max_tokens_ + 1, [&](uint32_t i) { return is_unabsorbed(n_past, i); });
  return n <= max_tokens_ ? n : 0;
}

uint64_t MlaPlan::unabsorbed_bytes() const {
  if (block_.n_positions == 0) return 0;
  return block_.n_bytes() + MlaKeyFiller::n_bytes(shape_, block_.n_positions);
}

uint64_t MlaPlan::query_bytes() const {
  if (options_.mla == MlaMode::standard) return 0;
  return uint64_t{sizes_.max_cached_tokens} * shape_.n_heads *
         (shape_.cache_row() + shape_.kv_lora) * sizeof(float);
}

uint64_t MlaPlan::n_bytes() const {
  return GroupedAttention::n_bytes(sizes_, options_) + unabsorbed_bytes() + query_bytes();
}

uint64_t MlaPlan::thread_bytes() const {
  const bool makes_keys = block_.n_positions > 0;
  const AttentionDims filled = makes_keys ? standard_dims(shape_) : AttentionDims{};
  uint64_t n = GroupedAttention::thread_bytes(sizes_, filled, options_);
  if (options_.mla == MlaMode::standard) return n + store_thread_bytes(shape_, max_tokens_);
  n += projection_thread_bytes(shape_, sizes_.max_cached_tokens) + mla_decode_thread_bytes(shape_);
  if (!makes_keys) return n;
  return n + MlaKeyFiller::thread_bytes(shape_) + prepare_thread_bytes(shape_.kv_lora) +
         panel_a_thread_bytes(shape_.qk_nope, shape_.kv_lora) +
         panel_b_thread_bytes(shape_.kv_lora, shape_.v_dim);
}

std::string MlaPlan::refusal() const { return GroupedAttention::refusal(sizes_, options_); }

uint64_t MlaAttention::held_bytes() const {
  return grouped_.held_bytes() + queries_.n_bytes() + sums_.n_bytes() +
         (block_ ? block_->held_bytes() + filler_->held_bytes() : 0);
}

MlaAttention::MlaAttention(const MlaPlan& plan)
    : plan_(plan), grouped_(plan.sizes(), plan.options()) {
  const MlaShape& s = plan.shape();
  if (const KeyBlock::Shape& block = plan.unabsorbed_block(); block.n_positions > 0) {
    block_ = std::make_unique<KeyBlock>(block);
    filler_ = std::make_unique<MlaKeyFiller>(s, block.n_positions);
  }
  if (plan.options().mla == MlaMode::standard) return;
  const uint64_t n_rows = uint64_t{plan.sizes().max_cached_tokens} * s.n_heads;
  queries_.reserve(n_rows * s.cache_row());
  sums_.reserve(n_rows * s.kv_lora);
}

void MlaAttention::store(const MlaUpProjection& up, const float* rows, uint32_t n_tokens,
                         KvCache& cache, uint32_t layer, uint32_t first, Workers& workers) const {
  const MlaShape& s = plan_.shape();
  if (plan_.options().mla == MlaMode::standard) {
    return store_heads(s, up, rows, n_tokens, cache, layer, first, workers);
  }
  workers.parallel_for(n_tokens, 8, [&](uint64_t begin, uint64_t end) {
    for (uint64_t t = begin; t < end; ++t) {
      cache.store(layer, 0, first + static_cast<uint32_t>(t), rows + t * s.cache_row(), nullptr);
    }
  });
}

void MlaAttention::attend(const MlaArgs& args, const MlaUpProjection& up,
                          const MlaDecodeWeights& decode, const KvCache& cache, Workers& workers) {
  const MlaShape& s = plan_.shape();
  const bool is_standard = plan_.options().mla == MlaMode::standard;
  const bool is_unabsorbed = plan_.is_unabsorbed(args.first_position, args.n_tokens);
  if (!is_standard && !is_unabsorbed) return attend_absorbed(args, up, decode, cache, workers);
  AttentionArgs a{standard_dims(s), args.kq_scale, args.layer, args.first_position,
                  args.n_tokens,    args.q,        args.out};
  if (is_standard) return grouped_.attend(a, cache, workers);
  HYBRID_CHECK(args.first_position + args.n_tokens <= cache.shape().n_ctx);
  grouped_.attend(
      a, *block_,
      [&](KeyBlock& block, BlockParts parts, uint32_t head, uint32_t n_heads, uint32_t first,
          uint32_t n) {
        filler_->fill(block, parts, up, cache, args.layer, head, n_heads, first, n, workers);
      },
      workers);
}

void MlaAttention::attend_absorbed(const MlaArgs& args, const MlaUpProjection& up,
                                   const MlaDecodeWeights& decode, const KvCache& cache,
                                   Workers& workers) {
  const MlaShape& s = plan_.shape();
  HYBRID_CHECK(args.n_tokens <= plan_.sizes().max_cached_tokens);
  const bool is_prepared = args.n_tokens == 1 && !decode.empty();
  if (is_prepared) {
    absorb_query(s, decode, args.q, queries_.data(), workers);
  } else {
    absorb_queries(s, up, args.q, args.n_tokens, queries_.data(), workers);
  }
  grouped_.attend({absorbed_dims(s), args.kq_scale, args.layer, args.first_position, args.n_tokens,
                   queries_.data(), sums_.data()},
                  cache, workers);
  if (is_prepared) {
    project_values(s, decode, sums_.data(), args.out, workers);
  } else {
    project_values(s, up, sums_.data(), args.n_tokens, args.out, workers);
  }
}

}  // namespace hybrid
