#include "attention/scored_attention.h"

#include <algorithm>

#include "attention/key_scores.h"
#include "attention/query_rows.h"
#include "base/error.h"
#include "base/rounding.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

constexpr uint32_t kTaskQueries = 64;  // of a task
constexpr uint32_t kKeys = 256;        // of a task
static_assert(kKeys % kPreparedCols == 0);

uint64_t score_stride(uint64_t n_kv) { return round_up(n_kv, kPanelLanes); }

/// One step: heads [head, head + n_heads) and tokens [token, token + n_tokens).
class Step {
 public:
  Step(const AttentionArgs& args, uint32_t head, uint32_t n_heads, uint32_t token,
       uint32_t n_tokens, float* scores)
      : args_(args),
        n_kv_(args.first_position + token + n_tokens),
        stride_(score_stride(n_kv_)),
        scores_(scores),
        ops_(row_ops()) {
    const uint32_t group = args.dims.group();
    for (uint32_t kv = head / group; kv * group < head + n_heads; ++kv) {
      rows_.push_back(QueryRows(args, kv, token, token + n_tokens, head, head + n_heads));
    }
  }

  void run(KeyBlock& block, FillBlock fill, Workers& workers) const {
    for_blocks(block, fill, {.keys = true, .values = false},
               [&](const auto& rows) { multiply_keys(block, rows, workers); });
    uint64_t offset = 0;
    for (const QueryRows& rows : rows_) {
      take_softmax(rows, scores_ + offset, workers);
      offset += rows.n_rows() * stride_;
    }
    for_blocks(block, fill, {.keys = false, .values = true},
               [&](const auto& rows) { add_values(block, rows, workers); });
  }

 private:
  /// Queries that use the same head of keys, and where their scores begin.
  struct HeadRows {
    const QueryRows& rows;
    float* scores;
  };

  /// Calls body for each block of keys and the heads in it.
  template <class Body>
  void for_blocks(KeyBlock& block, FillBlock fill, BlockParts parts, const Body& body) const {
    const auto n_kv_heads = static_cast<uint32_t>(rows_.size());
    const uint32_t n_at_once = block.shape().n_heads, n_step = block.shape().n_positions;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < n_kv_heads; i += n_at_once) {
      const uint32_t n = std::min(n_at_once, n_kv_heads - i);
      for (uint32_t first = 0; first < n_kv_; first += n_step) {
        fill(block, parts, rows_[i].kv_head, n, first, std::min(n_step, n_kv_ - first));
        uint64_t at = offset;
        for (uint32_t j = i; j < i + n; ++j) {
          body(HeadRows{rows_[j], scores_ + at});
          at += rows_[j].n_rows() * stride_;
        }
      }
      for (uint32_t j = i; j < i + n; ++j) offset += rows_[j].n_rows() * stride_;
    }
  }

  /// The block's columns of the scores.
  void multiply_keys(const KeyBlock& block, const HeadRows& head, Workers& workers) const {
    const uint32_t n_rows = head.rows.n_rows();
    const uint64_t n_groups = divide_up(n_rows, kTaskQueries);
    const uint64_t n_ranges = divide_up(block.n_positions(), kKeys);
    workers.parallel_for(n_groups * n_ranges, 1, [&](uint64_t begin, uint64_t end) {
      thread_local AlignedFloats buffer;
      float* q = buffer.reserve(uint64_t{kTaskQueries} * args_.dims.key_dim);
      for (uint64_t i = begin; i < end; ++i) {
        const auto first = static_cast<uint32_t>(i / n_ranges) * kTaskQueries;
        const uint32_t n = std::min(kTaskQueries, n_rows - first);
        const auto offset = static_cast<uint32_t>(i % n_ranges) * kKeys;
        const KeyRange keys{block, head.rows.kv_head, offset,
                            std::min(kKeys, block.n_positions() - offset)};
        if (keys.first() > head.rows.position(first + n - 1)) continue;  // none of them sees these
        head.rows.load_scaled(first, n, q);
        compute_scores(keys, q, n, head.scores + first * stride_ + keys.first(), stride_);
      }
    });
  }

  /// Scores become weights, 0 for keys that a query does not see.
  void take_softmax(const QueryRows& rows, float* scores, Workers& workers) const {
    workers.parallel_for(rows.n_rows(), 4, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        float* row = scores + i * stride_;
        const uint32_t n_visible = rows.position(static_cast<uint32_t>(i)) + 1;
        const float max = ops_.max(row, n_visible);
        const double sum = ops_.exp_sum(row, n_visible, max);
        ops_.scale(row, static_cast<float>(1.0 / sum), n_visible);
        std::fill(row + n_visible, row + stride_, 0.0f);
      }
    });
  }

  void add_values(const KeyBlock& block, const HeadRows& head, Workers& workers) const {
    const uint32_t n_rows = head.rows.n_rows(), dim = args_.dims.value_dim;
    const uint64_t n_groups = divide_up(n_rows, kTaskQueries);
    const KeyRange keys{block, head.rows.kv_head, 0, block.n_positions()};
    workers.parallel_for(n_groups, 1, [&](uint64_t begin, uint64_t end) {
      thread_local AlignedFloats buffer;
      float* sums = buffer.reserve(uint64_t{kTaskQueries} * dim);
      for (uint64_t i = begin; i < end; ++i) {
        const auto first = static_cast<uint32_t>(i) * kTaskQueries;
        const uint32_t n = std::min(kTaskQueries, n_rows - first);
        sum_values(keys, head.scores + first * stride_ + keys.first(), n, stride_, sums);
        for (uint32_t r = 0; r < n; ++r) {
          float* out = head.rows.out(first + r);
          if (keys.first() == 0) std::fill_n(out, dim, 0.0f);
          ops_.add(sums + uint64_t{r} * dim, out, dim);
        }
      }
    });
  }

  const AttentionArgs& args_;
  uint32_t n_kv_;
  uint64_t stride_;
  float* scores_;  // [rows][stride], head of keys after head of keys
  RowOps ops_;
  std::vector<QueryRows> rows_;
};

}  // namespace

uint64_t score_row_bytes(uint64_t n_kv) { return score_stride(n_kv) * sizeof(float); }

ScoreSteps fit_score_steps(uint32_t n_heads, uint32_t n_tokens, uint64_t row_bytes,
                           uint64_t head_bytes, uint64_t max_bytes) {
  const uint64_t head = head_bytes + row_bytes * n_tokens;
  if (max_bytes == 0) return {n_heads, n_tokens};
  if (max_bytes >= head) {
    return {static_cast<uint32_t>(std::min<uint64_t>(n_heads, max_bytes / head)), n_tokens};
  }
  if (max_bytes < head_bytes) return {1, 0};
  return {1, static_cast<uint32_t>((max_bytes - head_bytes) / row_bytes)};
}

ScoreSteps score_steps(uint32_t n_heads, uint32_t n_tokens, uint64_t n_kv, uint64_t max_bytes) {
  return fit_score_steps(n_heads, n_tokens, score_row_bytes(n_kv), 0, max_bytes);
}

uint64_t scored_thread_bytes(const AttentionDims& dims, uint32_t n_positions) {
  return kTaskQueries * (uint64_t{dims.key_dim} + dims.value_dim) * sizeof(float) +
         panel_a_thread_bytes(kTaskQueries, std::max(n_positions, dims.key_dim));
}

void scored_attention(const AttentionArgs& args, KeyBlock& block, FillBlock fill, float* scores,
                      uint64_t max_bytes, Workers& workers) {
  const uint32_t n_heads = args.dims.n_heads, n_tokens = args.n_tokens;
  const ScoreSteps steps = score_steps(n_heads, n_tokens, args.n_kv(), max_bytes);
  HYBRID_CHECK(steps.n_tokens > 0);
  for (uint32_t head = 0; head < n_heads; head += steps.n_heads) {
    for (uint32_t token = 0; token < n_tokens; token += steps.n_tokens) {
      Step(args, head, std::min(steps.n_heads, n_heads - head), token,
           std::min(steps.n_tokens, n_tokens - token), scores)
          .run(block, fill, workers);
    }
  }
}

}  // namespace hybrid
