#include <algorithm>
#include <vector>

#include "attention/mla_attention.h"
#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/softmax.h"
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

/// Replaces one absorbed query row by the attention-weighted sum of the latents before it.
void attend(const MlaAttentionArgs& args, const KvCache& cache, const VectorOps& ops,
            uint32_t token, uint32_t head) {
  const MlaShape& s = args.shape;
  const uint32_t n_kv = args.first_position + token + 1;
  thread_local std::vector<float> scores, row_buffer;
  scores.resize(n_kv);
  row_buffer.resize(s.cache_row());
  float* query = args.latent + (uint64_t{token} * s.n_heads + head) * s.cache_row();
  for (uint32_t p = 0; p < n_kv; ++p) {
    const float* row = load_cache_row(cache, args.layer, p, row_buffer.data());
    scores[p] = args.kq_scale * ops.dot(query, row, s.cache_row());
  }
  softmax(scores.data(), n_kv);
  std::fill_n(query, s.kv_lora, 0.0f);
  for (uint32_t p = 0; p < n_kv; ++p) {
    const float* row = load_cache_row(cache, args.layer, p, row_buffer.data());
    ops.axpy(scores[p], row, query, s.kv_lora);
  }
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
  workers.parallel_for(uint64_t{args.n_tokens} * s.n_heads, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      attend(args, cache, ops, static_cast<uint32_t>(i / s.n_heads),
             static_cast<uint32_t>(i % s.n_heads));
    }
  });
  workers.parallel_for(s.n_heads, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t h = begin; h < end; ++h)
      project_values_head(args, up, ops, static_cast<uint32_t>(h));
  });
}

}  // namespace hybrid
