#pragma once
// The tensors of a model, found by name and checked for shape. Views into the mapped file, and into
// packed memory where the loader packed them; the small vectors (norms, biases) are kept as floats.

#include <vector>

#include "attention/mla_decode.h"
#include "runtime/model_config.h"

namespace hybrid {

/// A gated feed-forward net: down(silu(gate x) * up x).
struct FfnWeights {
  Weight gate;  // {n_embd, n_ff}
  Weight up;    // {n_embd, n_ff}
  Weight down;  // {n_ff, n_embd}
};

struct LayerWeights {
  std::vector<float> attn_norm;  // [n_embd]
  Weight q;                      // {n_embd, n_heads * qk_dim}; empty with q_lora
  Weight q_a;                    // {n_embd, q_lora}
  std::vector<float> q_a_norm;   // [q_lora]
  Weight q_b;                    // {q_lora, n_heads * qk_dim}
  Weight kv_a;                   // {n_embd, kv_lora + qk_rope}
  std::vector<float> kv_a_norm;  // [kv_lora]
  MlaUpProjection kv_up;
  MlaDecodeWeights decode;         // made from kv_up by the loader; may be empty
  Weight attn_output;              // {n_heads * v_dim, n_embd}
  std::vector<float> ffn_norm;     // [n_embd]
  FfnWeights dense;                // leading dense layers
  Weight router;                   // {n_embd, n_experts}; empty in dense layers
  std::vector<float> router_bias;  // [n_experts] or empty
  ExpertWeights experts;
  FfnWeights shared;  // empty without shared experts
};

struct ModelWeights {
  TensorView token_embd;           // {n_embd, n_vocab}
  std::vector<float> output_norm;  // [n_embd]
  Weight output;                   // {n_embd, n_vocab}
  std::vector<LayerWeights> layers;
};

/// Throws Error for a tensor that is missing or has another shape than the metadata implies. A
/// tensor of the file that the model has no use for is named in `unused`.
ModelWeights bind_weights(const GgufFile& file, const ModelConfig& config,
                          std::vector<std::string>& unused);

}  // namespace hybrid
