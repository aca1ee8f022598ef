#include "attention/split_attention.h"

#include <cmath>
#include <limits>

#include "attention/query_rows.h"
#include "attention/split_tiles.h"
#include "base/error.h"
#include "tensor/row_ops.h"
#include "tensor/row_products.h"

namespace hybrid {
namespace {

constexpr uint32_t kChunk = 256;     // positions of a chunk at least: fewer are not worth a task
constexpr uint32_t kMaxChunks = 64;  // work for so many threads, and more with several heads
constexpr uint32_t kKeys = 32;       // positions converted at a time: they stay in the L2 cache
constexpr uint32_t kKeysAtOnce = 4;  // of them, multiplied at a time
constexpr uint32_t kQueries = 64;    // of a task at most

uint64_t sums_stride(const AttentionDims& dims) { return dims.value_dim + 2; }

uint64_t chunk_bytes(const AttentionDims& dims, uint64_t n_tokens) {
  return n_tokens * dims.n_heads * sums_stride(dims) * sizeof(float);
}

uint32_t round_up(uint32_t n, uint32_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// The running softmax of a query and chunk: what is behind its sums.
struct ChunkSoftmax {
  float max = -INFINITY, sum = 0;
};

/// A task: rows of queries, and a chunk.
struct Task {
  const AttentionArgs& args;
  const KvCache& cache;
  QueryRows rows;
  uint32_t first_row = 0, n_rows = 0;
  uint32_t first_position = 0, end_position = 0;
  float* sums = nullptr;  // of the chunk, [n_tokens * n_heads][value_dim + 2]

  float* sums_of(uint32_t i) const {
    return sums + rows.slot(first_row + i) * sums_stride(args.dims);
  }
  uint32_t n_visible(uint32_t i, uint32_t first, uint32_t n) const {
    const uint32_t end = rows.position(first_row + i) + 1;
    return end > first ? std::min(n, end - first) : 0;
  }
};

struct Buffers {
  AlignedFloats q, keys, values, scores, sums;
};

/// n rows of keys and of values as floats.
struct LoadedRows {
  FloatRows keys, values;
};

LoadedRows load(const Task& t, uint32_t first, uint32_t n, Buffers& buffers) {
  const KvCache::Shape& s = t.cache.shape();
  const uint64_t key_dim = s.key.dim(), value_dim = s.value.dim();
  const float* keys = t.cache.load_keys(t.args.layer, t.rows.kv_head, first, n,
                                        buffers.keys.reserve(kKeys * key_dim));
  if (s.values_in_keys()) return {{keys, key_dim}, {keys, key_dim}};
  const float* values = t.cache.load_values(t.args.layer, t.rows.kv_head, first, n,
                                            buffers.values.reserve(kKeys * value_dim));
  return {{keys, key_dim}, {values, value_dim}};
}

/// Into the L2 cache, a few rows at a time beside the products of as many: converting rows waits
/// for memory otherwise (13 of 92 ms of a step behind 4,096 tokens).
void prefetch_keys(const Task& t, uint32_t position) {
  if (position + kKeysAtOnce > t.end_position) return;
  const std::byte* from = t.cache.key_rows(t.args.layer, t.rows.kv_head, position);
  const uint64_t n = kKeysAtOnce * t.cache.shape().key.n_bytes();
  for (uint64_t i = 0; i < n; i += 64) __builtin_prefetch(from + i, 0, 2);
}

void run_with_vectors(const Task& t) {
  thread_local Buffers buffers;
  thread_local ChunkSoftmax softmax[kQueries];
  const AttentionDims& dims = t.args.dims;
  const RowOps ops = row_ops();
  const RowProducts products = row_products();
  float* q = buffers.q.reserve(uint64_t{kQueries} * dims.key_dim);
  float* scores = buffers.scores.reserve(uint64_t{kQueries} * kKeys);
  float* sums = buffers.sums.reserve(uint64_t{kQueries} * dims.value_dim);
  t.rows.load_scaled(t.first_row, t.n_rows, q);
  std::fill_n(softmax, t.n_rows, ChunkSoftmax{});
  std::fill_n(sums, uint64_t{t.n_rows} * dims.value_dim, 0.0f);
  const uint32_t end = std::min(t.end_position, t.rows.position(t.first_row + t.n_rows - 1) + 1);
  for (uint32_t first = t.first_position; first < end; first += kKeys) {
    const uint32_t n = std::min(kKeys, end - first);
    const LoadedRows rows = load(t, first, n, buffers);
    for (uint32_t k = 0; k < n; k += kKeysAtOnce) {
      prefetch_keys(t, first + kKeys + k);
      products.dots({rows.keys.data + k * rows.keys.stride, rows.keys.stride},
                    std::min(kKeysAtOnce, n - k), {q, dims.key_dim}, t.n_rows, dims.key_dim,
                    scores + k, kKeys);
    }
    for (uint32_t i = 0; i < t.n_rows; ++i) {
      float* row = scores + uint64_t{i} * kKeys;
      const uint32_t n_visible = t.n_visible(i, first, n);
      std::fill(row + n_visible, row + n, 0.0f);
      if (n_visible == 0) continue;
      const float before = softmax[i].max;
      softmax[i].max = std::max(before, ops.max(row, n_visible));
      if (softmax[i].max != before) {
        const float factor = std::exp(before - softmax[i].max);
        softmax[i].sum *= factor;
        ops.scale(sums + uint64_t{i} * dims.value_dim, factor, dims.value_dim);
      }
      softmax[i].sum += static_cast<float>(ops.exp_sum(row, n_visible, softmax[i].max));
    }
    products.add_weighted({scores, kKeys}, t.n_rows, rows.values, n, dims.value_dim, sums,
                          dims.value_dim);
  }
  for (uint32_t i = 0; i < t.n_rows; ++i) {
    float* to = t.sums_of(i);
    std::copy_n(sums + uint64_t{i} * dims.value_dim, dims.value_dim, to);
    to[dims.value_dim] = softmax[i].max;
    to[dims.value_dim + 1] = softmax[i].sum;
  }
}

/// Where several queries share latents: products on the matrix unit.
bool can_use_tiles(const AttentionDims& d, bool values_in_keys) {
  return simd_level() == SimdLevel::amx && values_in_keys && d.key_dim % 32 == 0 &&
         d.value_dim % 32 == 0;
}

#if defined(__x86_64__)
/// Of a single token: several have a closer bound of accuracy, which values as bf16 numbers would
/// use up. By the queries of the call, not of the task: threads decide on the latter.
bool can_use_tiles(const Task& t) {
  return t.args.n_tokens == 1 && t.rows.n_rows() > 2 &&
         can_use_tiles(t.args.dims, t.cache.shape().values_in_keys());
}

/// The chunk's rows [first, first + n): the cache's own where they are halves or floats, else
/// decoded.
TileChunkArgs tile_rows(const Task& t, uint32_t first, uint32_t n) {
  thread_local AlignedFloats buffer;
  const CacheRow& row = t.cache.shape().key;
  TileChunkArgs args;
  args.n_positions = n;
  args.is_f16 = row.type == DType::f16;
  if (row.type == DType::q8_0) {
    float* to = buffer.reserve(uint64_t{TileAttention::kPositions} * row.dim());
    args.rows = reinterpret_cast<const std::byte*>(
        t.cache.load_keys(t.args.layer, t.rows.kv_head, first, n, to));
    args.row_bytes = row.dim() * sizeof(float);
  } else {
    args.rows = t.cache.key_rows(t.args.layer, t.rows.kv_head, first);
    args.row_bytes = row.n_bytes();
  }
  return args;
}

void run_with_tiles(const Task& t) {
  thread_local TileAttention attention;
  thread_local AlignedFloats q;
  const AttentionDims& dims = t.args.dims;
  t.rows.load_scaled(t.first_row, t.n_rows, q.reserve(uint64_t{kTileQueries} * dims.key_dim));
  attention.begin(q.data(), t.n_rows, dims.key_dim, dims.value_dim);
  const uint32_t end = std::min(t.end_position, t.rows.position(t.first_row + t.n_rows - 1) + 1);
  for (uint32_t first = t.first_position; first < end; first += TileAttention::kPositions) {
    const uint32_t n = std::min(TileAttention::kPositions, end - first);
    uint32_t n_visible[kTileQueries];
    for (uint32_t i = 0; i < t.n_rows; ++i) n_visible[i] = t.n_visible(i, first, n);
    TileChunkArgs args = tile_rows(t, first, n);
    args.n_visible = n_visible;
    attention.add(args);
  }
  for (uint32_t i = 0; i < t.n_rows; ++i) {
    float* to = t.sums_of(i);
    attention.copy_sums(i, to);
    to[dims.value_dim] = attention.max(i);
    to[dims.value_dim + 1] = attention.sum(i);
  }
}
#endif

void run_task(const Task& t) {
#if defined(__x86_64__)
  if (can_use_tiles(t)) return run_with_tiles(t);
#endif
  run_with_vectors(t);
}

/// Row `slot` of out from the chunks' sums, in their order.
void join_chunks(const AttentionArgs& args, const float* sums, uint32_t n_chunks, uint64_t slot) {
  const uint64_t dim = args.dims.value_dim, stride = sums_stride(args.dims);
  const uint64_t chunk = uint64_t{args.n_tokens} * args.dims.n_heads * stride;
  const float* first = sums + slot * stride;
  float max = -INFINITY;
  for (uint32_t c = 0; c < n_chunks; ++c) max = std::max(max, first[c * chunk + dim]);
  double sum = 0;
  float* out = args.out + slot * dim;
  std::fill_n(out, dim, 0.0f);
  for (uint32_t c = 0; c < n_chunks; ++c) {
    const float* from = first + c * chunk;
    if (from[dim + 1] == 0) continue;  // a chunk behind the query
    const float factor = std::exp(from[dim] - max);
    sum += static_cast<double>(factor) * from[dim + 1];
    for (uint64_t i = 0; i < dim; ++i) out[i] += factor * from[i];
  }
  const auto factor = static_cast<float>(1.0 / sum);
  for (uint64_t i = 0; i < dim; ++i) out[i] *= factor;
}

/// Rows of a task: no more than there is need for to give all threads work; results do not depend
/// on it.
uint32_t rows_per_task(uint32_t n_rows, uint64_t n_others, int n_threads) {
  uint32_t n = std::min(n_rows, kQueries);
  while (n > 4 && n_others * ((n_rows + n - 1) / n) < 2 * static_cast<uint64_t>(n_threads)) {
    n = (n + 1) / 2;
  }
  return n;
}

}  // namespace

SplitPlan plan_split(const AttentionDims& dims, uint32_t n_tokens, uint32_t n_kv,
                     uint64_t max_bytes) {
  const uint64_t n_fit = std::max<uint64_t>(max_bytes / chunk_bytes(dims, n_tokens), 1);
  const uint64_t n_wanted = std::clamp<uint64_t>(n_kv / kChunk, 1, kMaxChunks);
  const auto n = static_cast<uint32_t>(std::min(n_fit, n_wanted));
  const uint32_t n_positions = round_up((n_kv + n - 1) / n, kKeys);
  return {(n_kv + n_positions - 1) / n_positions, n_positions};
}

namespace {

uint64_t limit_of(uint64_t max_bytes) {
  return max_bytes == 0 ? SplitScratch::kMaxBytes : std::min(max_bytes, SplitScratch::kMaxBytes);
}

}  // namespace

uint64_t SplitScratch::n_bytes(const AttentionDims& dims, uint32_t max_tokens, uint32_t n_ctx,
                               uint64_t max_bytes) {
  const uint64_t n_chunks = std::clamp<uint64_t>(n_ctx / kChunk, 1, kMaxChunks);
  const uint64_t n =
      std::max(chunk_bytes(dims, max_tokens),
               std::min(n_chunks * chunk_bytes(dims, max_tokens), limit_of(max_bytes)));
  return n / sizeof(float) * sizeof(float);
}

uint64_t SplitScratch::thread_bytes(const AttentionDims& dims, bool values_in_keys,
                                    DType key_type) {
  const uint64_t key = dims.key_dim, value = dims.value_dim;
  uint64_t n_floats = (kQueries + kKeys) * key + kQueries * (kKeys + value);
  if (!values_in_keys) n_floats += kKeys * value;
  uint64_t n = n_floats * sizeof(float) + kQueries * sizeof(ChunkSoftmax);
  if (can_use_tiles(dims, values_in_keys)) {
    n += TileAttention::n_bytes(dims.key_dim, dims.value_dim) + kTileQueries * key * sizeof(float);
    if (key_type == DType::q8_0) n += TileAttention::kPositions * key * sizeof(float);
  }
  return n;
}

SplitScratch::SplitScratch(const AttentionDims& dims, uint32_t max_tokens, uint32_t n_ctx,
                           uint64_t limit)
    : max_bytes(limit_of(limit)) {
  sums.reserve(n_bytes(dims, max_tokens, n_ctx, limit) / sizeof(float));
}

void split_attention(const AttentionArgs& args, const KvCache& cache, SplitScratch& scratch,
                     Workers& workers) {
  const AttentionDims& dims = args.dims;
  const SplitPlan plan = plan_split(dims, args.n_tokens, args.n_kv(), scratch.max_bytes);
  const uint64_t chunk = chunk_bytes(dims, args.n_tokens) / sizeof(float);
  HYBRID_CHECK(plan.n_chunks * chunk <= scratch.sums.size());
  HYBRID_CHECK(cache.shape().key.dim() == dims.key_dim && args.n_kv() <= cache.shape().n_ctx);
  const uint32_t n_rows = args.n_tokens * dims.group();
  const uint64_t n_others = uint64_t{plan.n_chunks} * dims.n_kv_heads;
  const uint32_t n_task = rows_per_task(n_rows, n_others, workers.n_threads());
  const uint64_t n_groups = (n_rows + n_task - 1) / n_task;
  workers.parallel_for(n_others * n_groups, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const auto c = static_cast<uint32_t>(i / n_groups / dims.n_kv_heads);
      const auto kv_head = static_cast<uint32_t>(i / n_groups % dims.n_kv_heads);
      Task task{args, cache, QueryRows(args, kv_head, 0, args.n_tokens, 0, dims.n_heads)};
      task.first_row = static_cast<uint32_t>(i % n_groups) * n_task;
      task.n_rows = std::min(n_task, n_rows - task.first_row);
      task.first_position = c * plan.n_positions;
      task.end_position = std::min(args.n_kv(), task.first_position + plan.n_positions);
      task.sums = scratch.sums.data() + c * chunk;
      run_task(task);
    }
  });
  workers.parallel_for(uint64_t{args.n_tokens} * dims.n_heads, 4,
                       [&](uint64_t begin, uint64_t end) {
                         for (uint64_t slot = begin; slot < end; ++slot) {
                           join_chunks(args, scratch.sums.data(), plan.n_chunks, slot);
                         }
                       });
}

}  // namespace hybrid
