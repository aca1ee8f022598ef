#pragma once
// What a deepseek2 GGUF says of its model: dimensions, routing rule, attention scale.

#include <string>
#include <vector>

#include "attention/mla_shape.h"
#include "experts/moe_shape.h"
#include "tensor/gguf_file.h"
#include "tensor/rope.h"

namespace hybrid {

/// --expert-groups: routing within groups as the file says, forced on, or plain top-k.
enum class ExpertGroups { automatic, on, off };

struct ModelConfig {
  std::string name;           // general.name, or the file's name
  std::string architecture;   // "deepseek2"
  uint32_t n_layers = 0;      // without next-token-prediction layers at the end
  uint32_t n_dense_lead = 0;  // the first layers have a dense feed-forward net
  uint32_t n_embd = 0;
  uint32_t n_ff_dense = 0;
  uint32_t n_vocab = 0;
  uint32_t n_ctx_train = 0;
  float rms_epsilon = 1e-6f;
  MlaShape mla;
  MoeShape moe;  // n_experts 0: every layer is dense
  RopeConfig rope;
  /// mscale^2 / sqrt(qk_dim), mscale = attn_factor * (1 + yarn_log_multiplier * ln(factor)).
  float kq_scale = 0;
  /// What a person should know of how the file was read, a sentence each (the routing rule used,
  /// ...).
  std::vector<std::string> notes;

  bool is_dense_layer(uint32_t layer) const { return layer < n_dense_lead; }
  uint32_t n_moe_layers() const { return n_layers - n_dense_lead; }
};

/// Throws Error naming the key or tensor, what was expected and what was found.
ModelConfig read_model_config(const GgufFile& file, ExpertGroups groups);

}  // namespace hybrid
