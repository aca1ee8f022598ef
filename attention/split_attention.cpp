#include "attention/split_attention.h"

#include <cmath>

#include "attention/query_rows.h"
#include "attention/split_tiles.h"
#include "attention/split_vectors.h"
#include "base/error.h"
#include "base/rounding.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

constexpr uint32_t kChunk = 256;     // positions of a chunk at least: fewer are not worth a task
constexpr uint32_t kMaxChunks = 64;  // work for so many threads, and more with several heads
constexpr uint32_t kPositionStep = VectorAttention::kPositions;  // chunks are whole numbers of it
constexpr uint32_t kQueries = VectorAttention::kMaxQueries;      // of a task at most
static_assert(kQueries == TileAttention::kMaxQueries);

/// Of a query and chunk: sums over values, and the maximum and sum of the softmax.
uint64_t sums_stride(const AttentionDims& dims) { return dims.value_dim + 2; }

uint64_t chunk_bytes(const AttentionDims& dims, uint64_t n_tokens) {
  return n_tokens * dims.n_heads * sums_stride(dims) * sizeof(float);
}

uint64_t limit_of(uint64_t max_bytes) {
  return max_bytes == 0 ? SplitScratch::kMaxBytes : std::min(max_bytes, SplitScratch::kMaxBytes);
}

/// A task: rows of queries, and a chunk.
struct Task {
  const AttentionArgs& args;
  const KvCache& cache;
  QueryRows rows;
  uint32_t first_row = 0, n_rows = 0;
  uint32_t first_position = 0, end_position = 0;
  float* sums = nullptr;  // of the chunk, [n_tokens * n_heads][sums_stride()]

  /// Behind the last position that one of its queries sees.
  uint32_t end_visible() const {
    return std::min(end_position, rows.position(first_row + n_rows - 1) + 1);
  }
};

/// Positions at vectors: rows of keys and of values become floats.
class VectorKernel {
 public:
  VectorAttention attention;

  void add(const Task& t, uint32_t first, uint32_t n, const uint32_t* n_visible) {
    constexpr uint32_t kRows = VectorAttention::kPositions;
    const KvCache::Shape& s = t.cache.shape();
    const uint32_t layer = t.args.layer, head = t.rows.kv_head;
    const uint64_t key_dim = s.key.dim(), value_dim = s.value.dim();
    VectorChunkArgs args;
    args.keys = {t.cache.load_keys(layer, head, first, n, keys_.reserve(kRows * key_dim)), key_dim};
    args.values = args.keys;
    if (!s.values_in_keys()) {
      float* to = values_.reserve(kRows * value_dim);
      args.values = {t.cache.load_values(layer, head, first, n, to), value_dim};
    }
    args.n_positions = n;
    args.n_visible = n_visible;
    if (const uint32_t next = first + n; next < t.end_position) {
      args.next = t.cache.key_rows(layer, head, next);
      args.next_bytes = std::min(kRows, t.end_position - next) * s.key.n_bytes();
    }
    attention.add(args);
  }

 private:
  AlignedFloats keys_, values_;
};

/// Where queries share latents: products on the matrix unit.
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

/// Positions at the matrix unit: the cache's own rows where they are halves or floats, else
/// decoded.
class TileKernel {
 public:
  TileAttention attention;

  void add(const Task& t, uint32_t first, uint32_t n, const uint32_t* n_visible) {
    const CacheRow& row = t.cache.shape().key;
    TileChunkArgs args;
    args.n_positions = n;
    args.n_visible = n_visible;
    args.is_f16 = row.type == DType::f16;
    if (row.type == DType::q8_0) {
      float* to = rows_.reserve(uint64_t{TileAttention::kPositions} * row.dim());
      args.rows = reinterpret_cast<const std::byte*>(
          t.cache.load_keys(t.args.layer, t.rows.kv_head, first, n, to));
      args.row_bytes = row.dim() * sizeof(float);
    } else {
      args.rows = t.cache.key_rows(t.args.layer, t.rows.kv_head, first);
      args.row_bytes = row.n_bytes();
    }
    attention.add(args);
  }

 private:
  AlignedFloats rows_;
};
#endif

template <class Kernel>
void run_with(const Task& t, Kernel& kernel) {
  thread_local AlignedFloats buffer;
  constexpr uint32_t kStep = decltype(kernel.attention)::kPositions;
  const AttentionDims& dims = t.args.dims;
  float* q = buffer.reserve(uint64_t{kQueries} * dims.key_dim);
  t.rows.load_scaled(t.first_row, t.n_rows, q);
  kernel.attention.begin(q, t.n_rows, dims.key_dim, dims.value_dim);
  const uint32_t end = t.end_visible();
  for (uint32_t first = t.first_position; first < end; first += kStep) {
    const uint32_t n = std::min(kStep, end - first);
    uint32_t n_visible[kQueries];
    for (uint32_t i = 0; i < t.n_rows; ++i) {
      n_visible[i] = t.rows.n_visible(t.first_row + i, first, n);
    }
    kernel.add(t, first, n, n_visible);
  }
  for (uint32_t i = 0; i < t.n_rows; ++i) {
    float* to = t.sums + t.rows.slot(t.first_row + i) * sums_stride(dims);
    kernel.attention.copy_sums(i, to);
    to[dims.value_dim] = kernel.attention.max(i);
    to[dims.value_dim + 1] = kernel.attention.sum(i);
  }
}

void run_task(const Task& t) {
#if defined(__x86_64__)
  if (can_use_tiles(t)) {
    thread_local TileKernel tiles;
    return run_with(t, tiles);
  }
#endif
  thread_local VectorKernel vectors;
  run_with(t, vectors);
}

/// Row `slot` of out from the chunks' sums, in their order.
void join_chunks(const AttentionArgs& args, const float* sums, uint32_t n_chunks, uint64_t slot) {
  const uint64_t dim = args.dims.value_dim, stride = sums_stride(args.dims);
  const uint64_t chunk = uint64_t{args.n_tokens} * args.dims.n_heads * stride;
  const float* first = sums + slot * stride;
  float max = -INFINITY;
  for (uint32_t c = 0; c < n_chunks; ++c) max = std::max(max, first[c * chunk + dim]);
  thread_local float weights[kMaxChunks];
  double sum = 0;
  for (uint32_t c = 0; c < n_chunks; ++c) {
    const float* softmax = first + c * chunk + dim;
    weights[c] = std::exp(softmax[0] - max);  // 0 for a chunk behind the query
    sum += static_cast<double>(weights[c]) * softmax[1];
  }
  float* out = args.out + slot * dim;
  std::fill_n(out, dim, 0.0f);
  row_products().add_weighted({weights, n_chunks}, 1, {first, chunk}, n_chunks, dim, out, dim);
  row_ops().scale(out, static_cast<float>(1.0 / sum), dim);
}

/// Rows of a task: no more than there is need for to give all threads work; results do not depend
/// on it.
uint32_t rows_per_task(uint32_t n_rows, uint64_t n_others, int n_threads) {
  uint32_t n = std::min(n_rows, kQueries);
  while (n > 4 && n_others * divide_up(n_rows, n) < 2 * static_cast<uint64_t>(n_threads)) {
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
  const uint32_t n_positions = round_up(divide_up(n_kv, n), kPositionStep);
  return {divide_up(n_kv, n_positions), n_positions};
}

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
  constexpr uint64_t kRows = VectorAttention::kPositions;
  const uint64_t key = dims.key_dim;
  uint64_t n_floats = (kQueries + kRows) * key;
  if (!values_in_keys) n_floats += kRows * dims.value_dim;
  uint64_t n = n_floats * sizeof(float) + VectorAttention::n_bytes(dims.value_dim);
  if (can_use_tiles(dims, values_in_keys)) {
    n += TileAttention::n_bytes(dims.key_dim, dims.value_dim);
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
  const uint64_t n_groups = divide_up(n_rows, n_task);
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
