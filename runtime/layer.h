#pragma once
// One decoder layer on a micro-batch.

#include <span>
#include <vector>

#include "attention/kv_cache.h"
#include "attention/mla_attention.h"
#include "experts/moe_ffn.h"
#include "numa/workers.h"
#include "runtime/expert_choice.h"
#include "runtime/weights.h"

namespace hybrid {

/// The buffers of a micro-batch, taken once; all [n_tokens][dim] without gaps.
struct Activations {
  /// Throws Error where the plan's limit of scratch is too small for any step.
  /// fused_moe: how the routed experts are computed, see MoeFfnArgs.
  Activations(const ModelConfig& config, uint32_t max_tokens, const MlaPlan& attention,
              bool fused_moe);
  /// Bytes that the constructor takes.
  static uint64_t n_bytes(const ModelConfig& config, uint64_t max_tokens, const MlaPlan& attention,
                          bool fused_moe);
  uint64_t held_bytes() const;  // what has really been taken

  std::vector<float> hidden;      // n_embd: the residual stream
  std::vector<float> normed;      // n_embd
  std::vector<float> q_latent;    // q_lora
  std::vector<float> q;           // n_heads * qk_dim
  std::vector<float> kv;          // cache_row
  std::vector<float> attended;    // n_heads * v_dim
  std::vector<float> projected;   // n_embd
  std::vector<float> router;      // n_experts
  std::vector<int32_t> ids;       // n_used
  std::vector<float> weights;     // n_used
  std::vector<float> rope_table;  // qk_rope
  MatmulInput input;              // what products take, in their forms
  FfnScratch ffn;                 // of dense nets
  MoeFfnScratch moe;
  bool fused_moe;
  MlaAttention attention;
};

/// Tokens of a micro-batch that belong to one sequence: they follow what its cache holds.
struct BatchSegment {
  KvCache* cache = nullptr;
  uint32_t first_position = 0;
  uint32_t n_tokens = 0;
};

/// What all layers of a step share.
struct StepContext {
  const ModelConfig& config;
  Activations& act;
  Workers& workers;
  std::span<const BatchSegment> segments;  // one after the other, n_tokens together
  uint32_t n_tokens = 0;
  uint32_t choice_offset = 0;            // the micro-batch's first token in the two below
  const ExpertChoice* replay = nullptr;  // experts to use instead of the router's choice
  ExpertChoice* record = nullptr;        // filled with the experts used
};

/// act.hidden: the layer's input, replaced by its output. act.rope_table holds the step's angles.
void decoder_layer(const LayerWeights& w, uint32_t layer, StepContext& step);

}  // namespace hybrid
