#include "runtime/layer.h"

#include <algorithm>

#include "experts/router.h"
#include "tensor/parallel_matmul.h"
#include "tensor/rms_norm.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"
#include "tensor/softmax.h"

namespace hybrid {
namespace {

/// Calls body(token) for all tokens of the step, in parallel where they are many.
template <class Body>
void for_tokens(const StepContext& step, const Body& body) {
  constexpr uint64_t kTokensPerTask = 8;
  step.workers.parallel_for(step.n_tokens, kTokensPerTask, [&](uint64_t begin, uint64_t end) {
    for (uint64_t t = begin; t < end; ++t) body(static_cast<uint32_t>(t));
  });
}

void norm_rows(const StepContext& step, const float* x, const std::vector<float>& weight,
               float* y) {
  const uint64_t n = weight.size();
  for_tokens(step,
             [&](uint64_t t) { rms_norm(x + t * n, weight, step.config.rms_epsilon, y + t * n); });
}

/// The rows that the products that follow take, until the next call.
void set_input(StepContext& step, const std::vector<float>& x, uint64_t n_cols,
               Precision precision) {
  step.act.input.set(x.data(), step.n_tokens, n_cols, precision);
}

void product(StepContext& step, const Weight& weight, std::vector<float>& y) {
  matmul(weight, step.act.input, y.data(), step.workers);
}

/// act.q: the queries, rotary part rotated; from the normed input, or from act.q_latent.
void project_queries(const LayerWeights& w, StepContext& step) {
  Activations& act = step.act;
  const MlaShape& mla = step.config.mla;
  if (mla.q_lora == 0) {
    product(step, w.q, act.q);
  } else {
    norm_rows(step, act.q_latent.data(), w.q_a_norm, act.q_latent.data());
    set_input(step, act.q_latent, mla.q_lora, Precision::exact);
    product(step, w.q_b, act.q);
  }
  for_tokens(step, [&](uint64_t t) {
    for (uint64_t i = t * mla.n_heads; i < (t + 1) * mla.n_heads; ++i) {
      const float* table = act.rope_table.data() + t * mla.qk_rope;
      rotate_pairs(act.q.data() + i * mla.qk_dim() + mla.qk_nope, table, mla.qk_rope);
    }
  });
}

/// Calls body(segment, index of its first token) for all segments.
template <class Body>
void for_segments(const StepContext& step, const Body& body) {
  uint64_t first = 0;
  for (const BatchSegment& segment : step.segments) {
    body(segment, first);
    first += segment.n_tokens;
  }
}

/// Computes the latent rows of the normed input and stores them in the cache.
void store_latents(const LayerWeights& w, uint32_t layer, StepContext& step) {
  Activations& act = step.act;
  const MlaShape& mla = step.config.mla;
  product(step, w.kv_a, act.kv);
  for_tokens(step, [&](uint32_t t) {
    float* row = act.kv.data() + uint64_t{t} * mla.cache_row();
    rms_norm(row, w.kv_a_norm, step.config.rms_epsilon, row);
    rotate_pairs(row + mla.kv_lora, act.rope_table.data() + uint64_t{t} * mla.qk_rope, mla.qk_rope);
  });
  for_segments(step, [&](const BatchSegment& segment, uint64_t first) {
    act.attention.store(w.kv_up, act.kv.data() + first * mla.cache_row(), segment.n_tokens,
                        *segment.cache, layer, segment.first_position, step.workers);
  });
}

void attend(const LayerWeights& w, uint32_t layer, StepContext& step) {
  Activations& act = step.act;
  const MlaShape& mla = step.config.mla;
  // The scalar level is the reference: it takes the file's own blocks.
  const MlaDecodeWeights decode = simd_level() == SimdLevel::scalar ? MlaDecodeWeights{} : w.decode;
  for_segments(step, [&](const BatchSegment& segment, uint64_t first) {
    MlaArgs args;
    args.kq_scale = step.config.kq_scale;
    args.layer = layer;
    args.first_position = segment.first_position;
    args.n_tokens = segment.n_tokens;
    args.q = act.q.data() + first * mla.n_heads * mla.qk_dim();
    args.out = act.attended.data() + first * mla.n_heads * mla.v_dim;
    act.attention.attend(args, w.kv_up, decode, *segment.cache, step.workers);
  });
}

/// act.projected = down(silu(gate x) * up x) of the normed input.
void gated_ffn(const FfnWeights& w, StepContext& step) {
  const FfnJob job{w.gate, w.up, w.down, 0, step.n_tokens};
  run_ffn_jobs({step.act.input, {&job, 1}, {}, step.act.projected.data()}, step.act.ffn,
               step.workers);
}

void add_projected(StepContext& step) {
  Activations& act = step.act;
  const uint64_t n = uint64_t{step.n_tokens} * step.config.n_embd;
  const RowOps ops = row_ops();
  step.workers.parallel_for(n, 1 << 15, [&](uint64_t begin, uint64_t end) {
    ops.add(act.projected.data() + begin, act.hidden.data() + begin, end - begin);
  });
}

/// act.ids and act.weights: the experts of each token, by the router or as replayed.
void route(const LayerWeights& w, uint32_t moe_layer, StepContext& step) {
  Activations& act = step.act;
  const MoeShape& moe = step.config.moe;
  product(step, w.router, act.router);
  for_tokens(step, [&](uint32_t t) {
    const std::span logits(act.router.data() + uint64_t{t} * moe.n_experts, moe.n_experts);
    const std::span ids(act.ids.data() + uint64_t{t} * moe.n_used, moe.n_used);
    const std::span weights(act.weights.data() + uint64_t{t} * moe.n_used, moe.n_used);
    if (step.replay != nullptr) {
      const auto chosen = step.replay->token(moe_layer, step.choice_offset + t);
      std::copy(chosen.begin(), chosen.end(), ids.begin());
      weigh_choice(moe, logits, ids, weights);
    } else {
      route_token(moe, logits, w.router_bias, ids, weights);
    }
    if (step.record != nullptr) {
      const auto record = step.record->token(moe_layer, step.choice_offset + t);
      std::copy(ids.begin(), ids.end(), record.begin());
    }
  });
}

/// Adds the routed experts of the normed input to act.hidden.
void add_routed_experts(const LayerWeights& w, StepContext& step) {
  Activations& act = step.act;
  const MoeShape& moe = step.config.moe;
  const uint64_t n_slots = uint64_t{step.n_tokens} * moe.n_used;
  const MoeFfnArgs args{act.input, act.hidden.data(), std::span(act.ids).first(n_slots),
                        std::span(act.weights).first(n_slots), act.fused_moe};
  moe_ffn(args, moe, w.experts, act.moe, step.workers);
}

/// A buffer of Activations and its floats per token.
struct FloatBuffer {
  std::vector<float> Activations::*buffer;
  uint64_t n_per_token;
};

/// The one list of them: what is taken and what is counted cannot differ.
std::vector<FloatBuffer> float_buffers(const ModelConfig& c) {
  const MlaShape& mla = c.mla;
  const uint64_t n_heads = mla.n_heads;
  return {
      {&Activations::hidden, c.n_embd},      {&Activations::normed, c.n_embd},
      {&Activations::q_latent, mla.q_lora},  {&Activations::q, n_heads * mla.qk_dim()},
      {&Activations::kv, mla.cache_row()},   {&Activations::attended, n_heads * mla.v_dim},
      {&Activations::projected, c.n_embd},   {&Activations::router, c.moe.n_experts},
      {&Activations::weights, c.moe.n_used}, {&Activations::rope_table, mla.qk_rope},
  };
}

}  // namespace

namespace {

/// The longest rows that products take, and the widest dense net.
uint64_t max_input_cols(const ModelConfig& c) {
  return std::max<uint64_t>({c.n_embd, c.mla.q_lora, uint64_t{c.mla.n_heads} * c.mla.v_dim});
}
uint64_t max_dense_ff(const ModelConfig& c) {
  return std::max<uint64_t>(c.n_ff_dense, uint64_t{c.moe.n_shared} * c.moe.ff_dim);
}

}  // namespace

uint64_t Activations::n_bytes(const ModelConfig& c, uint64_t n, const MlaPlan& attention,
                              bool fused_moe) {
  uint64_t n_bytes = n * c.moe.n_used * sizeof(int32_t);  // ids
  for (const FloatBuffer& b : float_buffers(c)) n_bytes += n * b.n_per_token * sizeof(float);
  return n_bytes + attention.n_bytes() + MatmulInput::n_bytes(n, max_input_cols(c)) +
         FfnScratch::n_bytes(c.n_embd, max_dense_ff(c), n, 1) +
         MoeFfnScratch::n_bytes(c.moe, c.n_embd, n, fused_moe);
}

uint64_t Activations::held_bytes() const {
  uint64_t n = ids.capacity() * sizeof(int32_t) + input.held_bytes() + ffn.held_bytes() +
               moe.held_bytes() + attention.held_bytes();
  for (const FloatBuffer& b : float_buffers({})) n += (this->*b.buffer).capacity() * sizeof(float);
  return n;
}

Activations::Activations(const ModelConfig& c, uint32_t max_tokens, const MlaPlan& attention_plan,
                         bool fused)
    : fused_moe(fused), attention(attention_plan) {
  const uint64_t n = max_tokens;
  for (const FloatBuffer& b : float_buffers(c)) (this->*b.buffer).resize(n * b.n_per_token);
  ids.resize(n * c.moe.n_used);
  input.reserve(n, max_input_cols(c));
  ffn.reserve(c.n_embd, max_dense_ff(c), n, 1);
  moe.reserve(c.moe, c.n_embd, n, fused_moe);
}

void decoder_layer(const LayerWeights& w, uint32_t layer, StepContext& step) {
  Activations& act = step.act;

  norm_rows(step, act.hidden.data(), w.attn_norm, act.normed.data());
  set_input(step, act.normed, step.config.n_embd, Precision::exact);
  store_latents(w, layer, step);
  if (step.config.mla.q_lora > 0) product(step, w.q_a, act.q_latent);
  project_queries(w, step);
  attend(w, layer, step);
  set_input(step, act.attended, uint64_t{step.config.mla.n_heads} * step.config.mla.v_dim,
            Precision::exact);
  product(step, w.attn_output, act.projected);
  add_projected(step);

  norm_rows(step, act.hidden.data(), w.ffn_norm, act.normed.data());
  // A single token waits for memory: fine rounding costs it nothing.
  set_input(step, act.normed, step.config.n_embd,
            step.n_tokens == 1 ? Precision::fine : Precision::normal);
  if (step.config.is_dense_layer(layer)) {
    gated_ffn(w.dense, step);
    add_projected(step);
    return;
  }
  route(w, layer - step.config.n_dense_lead, step);
  if (step.config.moe.n_shared > 0) {
    gated_ffn(w.shared, step);
    add_projected(step);
  }
  add_routed_experts(w, step);
}

}  // namespace hybrid
