#include <algorithm>
#include <vector>

#include "attention/attend_latents.h"
#include "attention/mla_attention.h"
#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/vector_ops.h"

namespace hybrid {
namespace {

/// n rows from `first` of a matrix as floats, [n][n_cols], in a buffer each thread keeps.
const float* decode_rows(const TensorView& matrix, uint64_t first, uint64_t n) {
  thread_local std::vector<float> buffer;
  buffer.resize(n * matrix.n_cols());
  const TensorView rows = matrix.rows(first, n);
  dequantize(rows.type, rows.data.data(), buffer.data(), buffer.size());
  return buffer.data();
}

/// latent[t][h][0:kv_lora] = W_h^T q_nope for all tokens of one head; the rope part is copied
/// behind.
void absorb_query_head(const MlaAttentionArgs& args, const MlaUpProjection& up,
                       const VectorOps& ops, uint32_t head) {
  const MlaShape& s = args.shape;
  const float* rows = up.is_split()
                          ? decode_rows(up.k_b, uint64_t{head} * s.kv_lora, s.kv_lora)
                          : decode_rows(up.kv_b, uint64_t{head} * (s.qk_nope + s.v_dim), s.qk_nope);
  for (uint32_t t = 0; t < args.n_tokens; ++t) {
    const uint64_t slot = uint64_t{t} * s.n_heads + head;
    const float* q = args.q + slot * s.qk_dim();
    float* out = args.latent + slot * s.cache_row();
    if (up.is_split()) {
      for (uint32_t j = 0; j < s.kv_lora; ++j) {
        out[j] = ops.dot(rows + uint64_t{j} * s.qk_nope, q, s.qk_nope);
      }
    } else {
      std::fill_n(out, s.kv_lora, 0.0f);
      for (uint32_t i = 0; i < s.qk_nope; ++i) {
        ops.axpy(q[i], rows + uint64_t{i} * s.kv_lora, out, s.kv_lora);
      }
    }
    std::copy_n(q + s.qk_nope, s.qk_rope, out + s.kv_lora);
  }
}

/// Heads that share the conversion of cache rows: few enough to keep all workers busy and the
/// scores of a long context small.
uint32_t heads_per_group(const MlaAttentionArgs& args, const Workers& workers) {
  constexpr uint32_t kMost = 16;
  const auto n_threads = static_cast<uint32_t>(workers.n_threads());
  if (args.n_tokens >= 4 * n_threads) return std::min(kMost, args.shape.n_heads);
  return std::clamp(args.shape.n_heads / n_threads, 1u, kMost);
}

/// out[t][h] = V_h latent[t][h] for all tokens of one head.
void project_values_head(const MlaAttentionArgs& args, const MlaUpProjection& up,
                         const VectorOps& ops, uint32_t head) {
  const MlaShape& s = args.shape;
  const float* rows =
      up.is_split()
          ? decode_rows(up.v_b, uint64_t{head} * s.v_dim, s.v_dim)
          : decode_rows(up.kv_b, uint64_t{head} * (s.qk_nope + s.v_dim) + s.qk_nope, s.v_dim);
  for (uint32_t t = 0; t < args.n_tokens; ++t) {
    const uint64_t slot = uint64_t{t} * s.n_heads + head;
    const float* latent = args.latent + slot * s.cache_row();
    float* out = args.out + slot * s.v_dim;
    for (uint32_t i = 0; i < s.v_dim; ++i) {
      out[i] = ops.dot(rows + uint64_t{i} * s.kv_lora, latent, s.kv_lora);
    }
  }
}

}  // namespace

void mla_attention_absorbed(const MlaAttentionArgs& args, const MlaUpProjection& up,
                            const KvCache& cache, Workers& workers) {
  const MlaShape& s = args.shape;
  const VectorOps ops = vector_ops();
  HYBRID_CHECK(cache.shape().row_dim == s.cache_row());
  HYBRID_CHECK(args.first_position + uint64_t{args.n_tokens} <= cache.shape().n_ctx);

  workers.parallel_for(s.n_heads, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t h = begin; h < end; ++h)
      absorb_query_head(args, up, ops, static_cast<uint32_t>(h));
  });
  const uint32_t group = heads_per_group(args, workers);
  const uint32_t n_groups = (s.n_heads + group - 1) / group;
  workers.parallel_for(uint64_t{args.n_tokens} * n_groups, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const auto head = static_cast<uint32_t>(i % n_groups) * group;
      attend_latents(args, cache, ops, static_cast<uint32_t>(i / n_groups), head,
                     std::min(group, s.n_heads - head));
    }
  });
  workers.parallel_for(s.n_heads, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t h = begin; h < end; ++h)
      project_values_head(args, up, ops, static_cast<uint32_t>(h));
  });
}

}  // namespace hybrid
