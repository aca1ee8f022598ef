#pragma once
// The tensors of a model, found by name and checked for shape. Views into the mapped file, and into
// packed memory where the loader packed them; the small vectors (norms, biases) are kept as floats.

#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "attention/mla_decode.h"
#include "runtime/model_config.h"

namespace hybrid {

/// Of a file.
using TensorSet = std::unordered_set<const GgufTensor*>;

/// A gated feed-forward net: down(silu(gate x) * up x).
struct FfnWeights {
  Weight gate;  // {n_embd, n_ff}
  Weight up;    // {n_embd, n_ff}
  Weight down;  // {n_ff, n_embd}
};

/// Norms and biases: floats that ModelWeights keeps, or a device's copy of them.
using FloatVector = std::span<const float>;

struct LayerWeights {
  FloatVector attn_norm;  // [n_embd]
  Weight q;               // {n_embd, n_heads * qk_dim}; empty with q_lora
  Weight q_a;             // {n_embd, q_lora}
  FloatVector q_a_norm;   // [q_lora]
  Weight q_b;             // {q_lora, n_heads * qk_dim}
  Weight kv_a;            // {n_embd, kv_lora + qk_rope}
  FloatVector kv_a_norm;  // [kv_lora]
  MlaUpProjection kv_up;
  MlaDecodeWeights decode;          // made from kv_up by the loader; may be empty
  PanelMatrix prefill_keys;         // the same, on GPUs alone
  Weight attn_output;               // {n_heads * v_dim, n_embd}
  FloatVector ffn_norm;             // [n_embd]
  FfnWeights dense;                 // leading dense layers
  Weight router;                    // {n_embd, n_experts}; empty in dense layers
  FloatVector router_bias;          // [n_experts] or empty
  FloatVector host_router_bias;     // the same for the CPU, which routes where choices are recorded
  std::vector<ExpertPart> experts;  // one, unless the layer's are split (split_experts())
  FfnWeights shared;                // empty without shared experts
};

struct ModelWeights {
  TensorView token_embd;    // {n_embd, n_vocab}
  FloatVector output_norm;  // [n_embd]
  Weight output;            // {n_embd, n_vocab}
  std::vector<LayerWeights> layers;

  std::vector<std::unique_ptr<float[]>> floats;  // what the vectors are views of
  std::vector<const GgufTensor*> copied;         // norms and biases
  std::vector<const GgufTensor*> unused;         // tensors that the model has no use for
};

/// Calls body for all matrices that products take, in the order of the layers.
template <class Body>
void for_weights(const ModelWeights& weights, const Body& body) {
  const auto call = [&](const Weight& w) {
    if (!w.empty()) body(w);
  };
  for (const LayerWeights& w : weights.layers) {
    for (const Weight* each : {&w.q, &w.q_a, &w.q_b, &w.kv_a, &w.attn_output, &w.router})
      call(*each);
    for (const FfnWeights* ffn : {&w.dense, &w.shared}) {
      for (const Weight* each : {&ffn->gate, &ffn->up, &ffn->down}) call(*each);
    }
    for (const ExpertPart& part : w.experts) {
      const ExpertWeights& e = part.w;
      for (const Weight* each : {&e.gate, &e.up, &e.gate_up, &e.down}) call(*each);
    }
  }
  call(weights.output);
}

/// Throws Error for a tensor that is missing or has another shape than the metadata implies.
ModelWeights bind_weights(const GgufFile& file, const ModelConfig& config);

/// The same from the file's headers alone, with the same checks, for plans: types, shapes and
/// sources are there, bytes are not (GgufFile::describe()); norms and biases are zeros.
ModelWeights describe_weights(const GgufFile& file, const ModelConfig& config);

/// "2 tensors of the file are not used: mtp.weight, ..."
std::string unused_note(const ModelWeights& weights);

}  // namespace hybrid
