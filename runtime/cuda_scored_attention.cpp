#include "runtime/cuda_scored_attention.h"

#include <algorithm>

#include "base/error.h"
#include "base/memory_cutter.h"

namespace hybrid {

CudaScoredAttention::CudaScoredAttention(const CudaTables& tables, CudaQueue& queue,
                                         const CudaScratch& scratch, const ModelConfig& config)
    : tables_(tables),
      queue_(queue),
      scratch_(scratch),
      config_(config),
      blas_(nullptr, tables.blas.close) {
  if (tables.blas.why_missing() != nullptr) return;
  queue_.launch("cublasCreate", [&](CudaStream stream) {
    CudaBlas* made = nullptr;
    const CudaStatus status =
        tables_.blas.open(stream, scratch_.blas_workspace, kCudaBlasWorkspaceBytes, &made);
    if (status == 0) blas_.reset(made);
    return status;
  });
}

bool CudaScoredAttention::has_room_for_keys(const CudaAttendArgs& a) const {
  const CudaScratch::Scored& s = scratch_.with_keys;
  return s.step_bytes > 0 &&
         s.shape(config_.mla, a.n_tokens).steps(a.n_positions(), s.step_bytes).n_tokens > 0;
}

void CudaScoredAttention::multiply(const RowGemm& product) const {
  const BlasGemm args = to_blas(product);
  queue_.launch("cublasGemmStridedBatchedEx", [&](CudaStream) {
    HYBRID_CHECK(blas_ != nullptr);
    return tables_.blas.gemm(blas_.get(), args);
  });
}

void CudaScoredAttention::to_bf16(const float* x, uint64_t stride, uint32_t n, uint64_t n_rows,
                                  bf16_t* y) const {
  queue_.launch("to_bf16", [&](CudaStream stream) {
    return tables_.tensor.to_bf16({x, stride}, n, static_cast<uint32_t>(n_rows), {y, n}, stream);
  });
}

void CudaScoredAttention::load_cache(const CudaAttendArgs& a, const CudaScratch::Scored& to) const {
  queue_.launch("load_cache_rows", [&](CudaStream stream) {
    return tables_.attention.load_cache_rows(a.row, a.cache, a.n_positions(), to.latents,
                                             to.rope_keys, stream);
  });
}

void CudaScoredAttention::run(const Step& s) const {
  const uint32_t n_positions = s.first_position + s.n_tokens;
  const uint64_t stride = cuda_score_stride(n_positions), of_head = s.n_tokens * stride;
  MemoryCutter cut(s.memory);
  float* const scores = cut.take<float>(s.n_heads * of_head);
  bf16_t* const weights = cut.take<bf16_t>(s.n_heads * of_head);
  RowGemm product{.n_rows = s.n_tokens,
                  .n_cols = n_positions,
                  .n_inner = s.key_dim,
                  .n_batch = s.n_heads,
                  .a = s.q,
                  .w = s.k,
                  .is_w_transposed = true,
                  .c = {scores, stride, of_head}};
  multiply(product);
  const uint32_t n_rope = config_.mla.qk_rope;
  product.n_inner = n_rope;
  product.a = s.q_rope;
  product.w = {s.rope_keys, n_rope, 0};
  product.adds = true;
  multiply(product);
  queue_.launch("score_softmax", [&](CudaStream stream) {
    return tables_.attention.score_softmax(
        {s.n_heads, s.n_tokens, s.first_position, config_.kq_scale, stride, scores, weights},
        stream);
  });
  multiply({.n_rows = s.n_tokens,
            .n_cols = s.value_dim,
            .n_inner = n_positions,
            .n_batch = s.n_heads,
            .a = {weights, stride, of_head},
            .w = s.v,
            .c = s.out});
}

void CudaScoredAttention::attend_with_keys(const CudaAttendArgs& a,
                                           const MakeHeads& make_heads) const {
  const MlaShape& mla = config_.mla;
  const CudaScratch::Scored& s = scratch_.with_keys;
  const uint32_t n_positions = a.n_positions(), qk = mla.qk_dim();
  const uint64_t q_stride = uint64_t{mla.n_heads} * qk,
                 out_stride = uint64_t{mla.n_heads} * mla.v_dim;
  load_cache(a, s);
  to_bf16(a.q, qk, qk, uint64_t{a.n_tokens} * mla.n_heads, s.queries);
  const ScoreSteps steps = s.shape(mla, a.n_tokens).steps(n_positions, s.step_bytes);
  for (uint32_t head = 0; head < mla.n_heads; head += steps.n_heads) {
    Step step;
    step.n_heads = std::min(steps.n_heads, mla.n_heads - head);
    const uint64_t n_made = step.n_heads * cuda_score_stride(n_positions);
    MemoryCutter cut(s.step);
    bf16_t* const keys = cut.take<bf16_t>(n_made * mla.qk_nope);
    bf16_t* const values = cut.take<bf16_t>(n_made * mla.v_dim);
    step.memory = s.step + cut.position();
    make_heads({head, step.n_heads, n_positions, s.latents, keys, values});
    step.key_dim = mla.qk_nope;
    step.value_dim = mla.v_dim;
    step.k = {keys, uint64_t{step.n_heads} * mla.qk_nope, mla.qk_nope};
    step.v = {values, uint64_t{step.n_heads} * mla.v_dim, mla.v_dim};
    step.rope_keys = s.rope_keys;
    for (uint32_t token = 0; token < a.n_tokens; token += steps.n_tokens) {
      step.n_tokens = std::min(steps.n_tokens, a.n_tokens - token);
      step.first_position = a.first_position + token;
      const bf16_t* const q = s.queries + token * q_stride + uint64_t{head} * qk;
      step.q = {q, q_stride, qk};
      step.q_rope = {q + mla.qk_nope, q_stride, qk};
      step.out = {a.out + token * out_stride + uint64_t{head} * mla.v_dim, out_stride, mla.v_dim};
      run(step);
    }
  }
}

void CudaScoredAttention::load_latents(const CudaAttendArgs& a) const {
  load_cache(a, scratch_.on_latents);
}

void CudaScoredAttention::attend_on_latents(const CudaAttendArgs& a, uint32_t first, uint32_t n,
                                            const float* queries, float* out) const {
  const MlaShape& mla = config_.mla;
  const CudaScratch::Scored& s = scratch_.on_latents;
  const uint64_t n_rows = uint64_t{n} * mla.n_heads, latent = mla.kv_lora, rope = mla.qk_rope;
  const float* const q = a.q + uint64_t{first} * mla.n_heads * mla.qk_dim();
  to_bf16(queries, latent, mla.kv_lora, n_rows, s.queries);
  to_bf16(q + mla.qk_nope, mla.qk_dim(), mla.qk_rope, n_rows, s.rope_queries);
  const ScoreSteps steps = s.shape(mla, n).steps(a.first_position + first + n, s.step_bytes);
  HYBRID_CHECK(steps.n_tokens > 0);
  Step step;
  step.key_dim = step.value_dim = mla.kv_lora;
  step.k = step.v = {s.latents, latent, 0};  // all heads share them
  step.rope_keys = s.rope_keys;
  step.memory = s.step;
  for (uint32_t head = 0; head < mla.n_heads; head += steps.n_heads) {
    step.n_heads = std::min(steps.n_heads, mla.n_heads - head);
    for (uint32_t token = 0; token < n; token += steps.n_tokens) {
      step.n_tokens = std::min(steps.n_tokens, n - token);
      step.first_position = a.first_position + first + token;
      const uint64_t row = uint64_t{token} * mla.n_heads + head;
      step.q = {s.queries + row * latent, mla.n_heads * latent, latent};
      step.q_rope = {s.rope_queries + row * rope, mla.n_heads * rope, rope};
      step.out = {out + row * latent, mla.n_heads * latent, latent};
      run(step);
    }
  }
}

}  // namespace hybrid
