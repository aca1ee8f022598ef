#include "runtime/step_bytes.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hybrid {
namespace {

/// A tensor that the model does not have counts 0.
uint64_t sum_bytes(std::initializer_list<const Weight*> weights) {
  uint64_t n = 0;
  for (const Weight* weight : weights) n += weight->rows.data.size();
  return n;
}

uint64_t ffn_bytes(const FfnWeights& w) { return sum_bytes({&w.gate, &w.up, &w.down}); }

/// What every token reads, whatever its experts.
uint64_t common_bytes(const LayerWeights& w) {
  const MlaUpProjection& up = w.kv_up;
  return sum_bytes({&w.q, &w.q_a, &w.q_b, &w.kv_a, &w.attn_output, &w.router}) +
         up.kv_b.data.size() + up.k_b.data.size() + up.v_b.data.size() + ffn_bytes(w.dense) +
         ffn_bytes(w.shared);
}

uint64_t routed_bytes(const ExpertWeights& w) {
  return sum_bytes({&w.gate, &w.up, &w.gate_up, &w.down});
}

}  // namespace

double expected_experts(const MoeShape& shape, uint64_t n_tokens) {
  const double share = static_cast<double>(shape.n_used) / shape.n_experts;
  return shape.n_experts * -std::expm1(static_cast<double>(n_tokens) * std::log1p(-share));
}

uint64_t step_bytes(const Model& model, const AttentionOptions& attention, const StepShape& step) {
  HYBRID_CHECK(step.n_tokens > 0);
  const ModelConfig& config = model.config();
  const ModelWeights& w = model.weights();
  uint64_t common = 0, routed = 0;
  for (const LayerWeights& layer : w.layers) {
    common += common_bytes(layer);
    for (const ExpertPart& part : layer.experts) routed += routed_bytes(part.w);
  }
  uint64_t n = common + step.n_tokens * w.token_embd.row_bytes();
  if (step.with_logits) n += w.output.rows.data.size();
  if (routed > 0) {
    const double share = expected_experts(config.moe, step.n_tokens) / config.moe.n_experts;
    n += static_cast<uint64_t>(std::llround(static_cast<double>(routed) * share));
  }
  const uint64_t per_position =
      mla_cache_shape(config.mla, config.n_layers, 32, attention).n_bytes();
  return n + (step.n_past + step.n_tokens) * (per_position / 32);
}

uint64_t decode_bytes(const Model& model, const AttentionOptions& attention,
                      uint64_t n_ctx_tokens) {
  HYBRID_CHECK(n_ctx_tokens > 0);
  return step_bytes(model, attention, {.n_past = n_ctx_tokens - 1});
}

uint64_t prefill_bytes(const Model& model, const AttentionOptions& attention, uint64_t n_tokens,
                       uint64_t n_batch, uint64_t n_ubatch) {
  HYBRID_CHECK(n_batch > 0 && n_ubatch > 0);
  uint64_t n = 0;
  StepShape step;
  for (uint64_t done = 0; done < n_tokens; done += step.n_tokens) {
    const uint64_t batch_end = std::min(n_tokens, (done / n_batch + 1) * n_batch);
    step.n_past = done;
    step.n_tokens = std::min(n_ubatch, batch_end - done);
    step.with_logits = done + step.n_tokens == n_tokens;
    n += step_bytes(model, attention, step);
  }
  return n;
}

}  // namespace hybrid
