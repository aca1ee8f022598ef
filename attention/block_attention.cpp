#include "attention/block_attention.h"

#include "attention/key_scores.h"
#include "attention/query_rows.h"
#include "base/error.h"
#include "base/rounding.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

/// Queries that are computed together: so many share each pass over the keys.
constexpr uint32_t kQueries = 64;

/// The same where a query sees only a part of the keys: 64 would compute 32 keys too many for each
/// query, 16 compute 8. To the matrix unit larger products are worth as much as fewer keys.
uint32_t queries_at_diagonal() { return simd_level() == SimdLevel::amx ? kQueries : 16; }

/// Positions whose scores are computed before their values are summed: 64 KiB of scores.
constexpr uint32_t kKeys = 256;
static_assert(kKeys % kPreparedCols == 0);

/// Rows [first, first + n) of the queries that share a head of keys.
struct QueryGroup {
  const QueryRows& rows;
  uint32_t first = 0, n = 0;
  const float* q = nullptr;           // [n][key_dim], times scale
  RunningSoftmax* softmax = nullptr;  // of all [n_tokens][n_heads]
  const RowOps& ops;

  uint32_t position(uint32_t i) const { return rows.position(first + i); }
  QueryGroup part(uint32_t begin, uint32_t n_part) const {
    return {rows, first + begin, n_part, q + uint64_t{begin} * rows.args->dims.key_dim, softmax,
            ops};
  }
};

/// The buffers of a thread.
struct Buffers {
  AlignedFloats q, scores, sums;
};
Buffers& thread_buffers() {
  thread_local Buffers buffers;
  return buffers;
}

/// The group's share of one range of keys; what lies beyond its last query is left out.
void attend_range(const QueryGroup& group, KeyRange keys) {
  const uint32_t n_seen = group.position(group.n - 1) + 1;
  if (keys.first() >= n_seen) return;
  keys.n = std::min(keys.n, n_seen - keys.first());
  const uint32_t value_dim = group.rows.args->dims.value_dim;
  float* scores = thread_buffers().scores.reserve(uint64_t{kQueries} * kKeys);
  compute_scores(keys, group.q, group.n, scores, kKeys);
  for (uint32_t i = 0; i < group.n; ++i) {
    const uint32_t row = group.first + i;
    group.softmax[group.rows.slot(row)].weigh(group.ops, scores + uint64_t{i} * kKeys,
                                              group.rows.n_visible(row, keys.first(), keys.n),
                                              keys.n, group.rows.out(row), value_dim);
  }
  float* sums = thread_buffers().sums.reserve(uint64_t{kQueries} * value_dim);
  sum_values(keys, scores, group.n, kKeys, sums);
  for (uint32_t i = 0; i < group.n; ++i) {
    group.ops.add(sums + uint64_t{i} * value_dim, group.rows.out(group.first + i), value_dim);
  }
}

void start(const QueryGroup& group) {
  for (uint32_t i = group.first; i < group.first + group.n; ++i) {
    group.softmax[group.rows.slot(i)] = {};
    std::fill_n(group.rows.out(i), group.rows.args->dims.value_dim, 0.0f);
  }
}

void normalise(const QueryGroup& group) {
  for (uint32_t i = group.first; i < group.first + group.n; ++i) {
    const auto factor = static_cast<float>(1.0 / group.softmax[group.rows.slot(i)].sum);
    group.ops.scale(group.rows.out(i), factor, group.rows.args->dims.value_dim);
  }
}

/// One group's share of a block. Keys that only some of its queries see are met by fewer at a time.
void attend_block(const KeyBlock& block, const QueryGroup& group) {
  for (uint32_t offset = 0; offset < block.n_positions(); offset += kKeys) {
    const KeyRange keys{block, group.rows.kv_head, offset,
                        std::min(kKeys, block.n_positions() - offset)};
    const bool all_see_all = keys.first() + keys.n <= group.position(0) + 1;
    const uint32_t step = all_see_all ? group.n : queries_at_diagonal();
    for (uint32_t i = 0; i < group.n; i += step) {
      attend_range(group.part(i, std::min(step, group.n - i)), keys);
    }
  }
}

/// Group `i` of all that use heads [head, ...) of keys.
void attend_group(const AttentionArgs& args, const KeyBlock& block, uint32_t head, uint64_t i,
                  RunningSoftmax* softmax, const RowOps& ops) {
  const uint32_t n_rows = args.n_tokens * args.dims.group();
  const uint32_t n_groups = divide_up(n_rows, kQueries);
  const QueryRows rows(args, head + static_cast<uint32_t>(i / n_groups), 0, args.n_tokens, 0,
                       args.dims.n_heads);
  QueryGroup group{rows, static_cast<uint32_t>(i % n_groups) * kQueries, 0, nullptr, softmax, ops};
  group.n = std::min(kQueries, n_rows - group.first);
  float* q = thread_buffers().q.reserve(uint64_t{kQueries} * args.dims.key_dim);
  rows.load_scaled(group.first, group.n, q);
  group.q = q;
  if (block.first() == 0) start(group);
  attend_block(block, group);
  if (block.first() + block.n_positions() == args.n_kv()) normalise(group);
}

}  // namespace

uint64_t block_thread_bytes(const AttentionDims& dims) {
  const uint64_t n_floats = kQueries * (uint64_t{dims.key_dim} + kKeys + dims.value_dim);
  return n_floats * sizeof(float) + panel_a_thread_bytes(kQueries, std::max(kKeys, dims.key_dim));
}

void block_attention(const AttentionArgs& args, KeyBlock& block, FillBlock fill,
                     std::vector<RunningSoftmax>& softmax, Workers& workers) {
  HYBRID_CHECK(softmax.size() >= uint64_t{args.dims.n_heads} * args.n_tokens);
  const RowOps ops = row_ops();
  const uint32_t n_kv = args.n_kv(), n_step = block.shape().n_positions;
  const uint64_t n_groups = divide_up(args.n_tokens * args.dims.group(), kQueries);
  for (uint32_t head = 0; head < args.dims.n_kv_heads; head += block.shape().n_heads) {
    const uint32_t n_heads = std::min(block.shape().n_heads, args.dims.n_kv_heads - head);
    for (uint32_t first = 0; first < n_kv; first += n_step) {
      fill(block, {}, head, n_heads, first, std::min(n_step, n_kv - first));
      workers.parallel_for(n_heads * n_groups, 1, [&](uint64_t begin, uint64_t end) {
        for (uint64_t i = begin; i < end; ++i) {
          attend_group(args, block, head, i, softmax.data(), ops);
        }
      });
    }
  }
}

}  // namespace hybrid
