#include "attention/mla_attention_unabsorbed.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

/// Queries of one head that are computed together: so many share each pass over the keys.
constexpr uint32_t kQueries = 64;

/// The same where a query sees only a part of the keys: 64 would compute 32 keys too many for each
/// query, 16 compute 8. To the matrix unit larger products are worth as much as fewer keys.
uint32_t queries_at_diagonal() { return simd_level() == SimdLevel::amx ? kQueries : 16; }

/// Positions whose scores are computed before their values are summed: 64 KiB of scores.
constexpr uint32_t kKeys = 256;
static_assert(MlaKeyBlock::kPositions % kKeys == 0 && kKeys % kPanelLanes == 0);

/// Queries [first, first + n) of one head.
struct QueryGroup {
  const MlaAttentionArgs& args;
  uint32_t head, first, n;
  const float* q;           // [n][qk_dim], times kq_scale
  RunningSoftmax* softmax;  // [n]

  uint32_t position(uint32_t i) const { return args.first_position + first + i; }
  QueryGroup part(uint32_t begin, uint32_t n_part) const {
    return {args,           head, first + begin, n_part, q + uint64_t{begin} * args.shape.qk_dim(),
            softmax + begin};
  }
  uint64_t out_stride() const { return uint64_t{args.shape.n_heads} * args.shape.v_dim; }
  float* out(uint32_t i) const {
    return args.out + (first + i) * out_stride() + uint64_t{head} * args.shape.v_dim;
  }
};

/// Positions [first, first + n) of a block, seen from its start.
struct KeyRange {
  const MlaKeyBlock& block;
  uint32_t offset, n;

  uint32_t first() const { return block.first() + offset; }
};

/// The group's queries without gaps and scaled, in a buffer each thread keeps.
const float* scaled_queries(const MlaAttentionArgs& args, const RowOps& ops, uint32_t head,
                            uint32_t first, uint32_t n) {
  thread_local AlignedFloats buffer;
  const uint64_t dim = args.shape.qk_dim();
  float* to = buffer.reserve(n * dim);
  for (uint64_t i = 0; i < n; ++i) {
    std::copy_n(args.q + ((first + i) * args.shape.n_heads + head) * dim, dim, to + i * dim);
  }
  ops.scale(to, args.kq_scale, n * dim);
  return to;
}

/// scores[i][p] = q_i . k_p for whole panels of keys, those that a query must not see among them.
void compute_scores(const QueryGroup& queries, const KeyRange& keys, float* scores) {
  const MlaShape& s = queries.args.shape;
  const uint64_t panel = keys.offset / kPanelLanes;
  PanelArgs args;
  args.a = queries.q;
  args.a_stride = s.qk_dim();
  args.b = keys.block.key_panels(queries.head, panel);
  args.b_stride = keys.block.key_stride();
  args.b_is_prepared = true;
  args.c = scores;
  args.c_stride = kKeys;
  args.n_tokens = queries.n;
  args.n_k = s.qk_nope;
  args.n_lanes = n_panels_of(keys.n) * kPanelLanes;
  panel_matmul(args);
  args.a += s.qk_nope;
  args.b = keys.block.rope_panels(panel);
  args.b_stride = keys.block.rope_stride();
  args.n_k = s.qk_rope;
  args.accumulate = true;
  panel_matmul(args);
}

/// Turns a row of scores into weights relative to the running maximum, 0 for keys beyond n_visible,
/// and brings what has been summed in `out` to that maximum.
void weigh_scores(const RowOps& ops, float* scores, uint32_t n_visible, uint32_t n,
                  RunningSoftmax& softmax, float* out, uint32_t v_dim) {
  std::fill(scores + n_visible, scores + n, 0.0f);
  if (n_visible == 0) return;
  const float before = softmax.max;
  softmax.max = std::max(before, ops.max(scores, n_visible));
  if (softmax.max != before) {
    const float factor = std::exp(before - softmax.max);
    softmax.sum *= factor;
    ops.scale(out, factor, v_dim);
  }
  softmax.sum += ops.exp_sum(scores, n_visible, softmax.max);
}

void add_values(const QueryGroup& queries, const KeyRange& keys, const float* weights) {
  const MlaShape& s = queries.args.shape;
  PanelArgs args;
  args.a = weights;
  args.a_stride = kKeys;
  args.b = keys.block.value_panels(queries.head, keys.offset);
  args.b_stride = keys.block.value_stride();
  args.b_is_prepared = true;
  args.c = queries.out(0);
  args.c_stride = queries.out_stride();
  args.n_tokens = queries.n;
  args.n_k = keys.n;
  args.n_lanes = s.v_dim;
  args.accumulate = true;
  panel_matmul(args);
}

/// The group's share of one range of keys; what lies beyond its last query is left out.
void attend_range(const QueryGroup& queries, KeyRange keys, const RowOps& ops, float* scores) {
  const uint32_t n_seen = queries.position(queries.n - 1) + 1;
  if (keys.first() >= n_seen) return;
  keys.n = std::min(keys.n, n_seen - keys.first());
  compute_scores(queries, keys, scores);
  for (uint32_t i = 0; i < queries.n; ++i) {
    const uint32_t end = queries.position(i) + 1;
    const uint32_t n_visible = end > keys.first() ? std::min(keys.n, end - keys.first()) : 0;
    weigh_scores(ops, scores + uint64_t{i} * kKeys, n_visible, keys.n, queries.softmax[i],
                 queries.out(i), queries.args.shape.v_dim);
  }
  add_values(queries, keys, scores);
}

void start(const QueryGroup& queries) {
  for (uint32_t i = 0; i < queries.n; ++i) {
    queries.softmax[i] = {-INFINITY, 0};
    std::fill_n(queries.out(i), queries.args.shape.v_dim, 0.0f);
  }
}

/// One group's share of a block. Keys that only some of its queries see are met by fewer at a time.
void attend_block(const MlaKeyBlock& block, const RowOps& ops, const QueryGroup& queries) {
  thread_local AlignedFloats buffer;
  float* scores = buffer.reserve(uint64_t{kQueries} * kKeys);
  for (uint32_t offset = 0; offset < block.n_positions(); offset += kKeys) {
    const KeyRange keys{block, offset, std::min(kKeys, block.n_positions() - offset)};
    const bool all_see_all = keys.first() + keys.n <= queries.position(0) + 1;
    const uint32_t step = all_see_all ? queries.n : queries_at_diagonal();
    for (uint32_t i = 0; i < queries.n; i += step) {
      attend_range(queries.part(i, std::min(step, queries.n - i)), keys, ops, scores);
    }
  }
}

void normalise(const RowOps& ops, const QueryGroup& queries) {
  for (uint32_t i = 0; i < queries.n; ++i) {
    const auto factor = static_cast<float>(1.0 / queries.softmax[i].sum);
    ops.scale(queries.out(i), factor, queries.args.shape.v_dim);
  }
}

}  // namespace

MlaUnabsorbedScratch::MlaUnabsorbedScratch(const MlaShape& shape, uint64_t max_tokens)
    : block(shape), softmax(shape.n_heads * max_tokens) {}

uint64_t MlaUnabsorbedScratch::n_bytes(const MlaShape& shape, uint64_t max_tokens) {
  return MlaKeyBlock::n_bytes(shape) + shape.n_heads * max_tokens * sizeof(RunningSoftmax);
}

void mla_attention_unabsorbed(const MlaAttentionArgs& args, const MlaUpProjection& up,
                              const KvCache& cache, MlaUnabsorbedScratch& scratch,
                              Workers& workers) {
  const MlaShape& s = args.shape;
  const RowOps ops = row_ops();
  HYBRID_CHECK(cache.shape().row_dim == s.cache_row());
  HYBRID_CHECK(args.first_position + uint64_t{args.n_tokens} <= cache.shape().n_ctx);
  HYBRID_CHECK(scratch.softmax.size() >= uint64_t{s.n_heads} * args.n_tokens);
  const uint32_t n_groups = (args.n_tokens + kQueries - 1) / kQueries;
  const uint32_t n_kv = args.first_position + args.n_tokens;
  for (uint32_t first = 0; first < n_kv; first += MlaKeyBlock::kPositions) {
    const uint32_t n_block = std::min(MlaKeyBlock::kPositions, n_kv - first);
    scratch.block.fill(up, cache, args.layer, first, n_block, workers);
    workers.parallel_for(uint64_t{s.n_heads} * n_groups, 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        const auto head = static_cast<uint32_t>(i / n_groups);
        const auto first_query = static_cast<uint32_t>(i % n_groups) * kQueries;
        const uint32_t n = std::min(kQueries, args.n_tokens - first_query);
        const QueryGroup queries{args,
                                 head,
                                 first_query,
                                 n,
                                 scaled_queries(args, ops, head, first_query, n),
                                 &scratch.softmax[uint64_t{head} * args.n_tokens + first_query]};
        if (first == 0) start(queries);
        attend_block(scratch.block, ops, queries);
        if (first + n_block == n_kv) normalise(ops, queries);
      }
    });
  }
}

}  // namespace hybrid
