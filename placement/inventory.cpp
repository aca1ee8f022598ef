#include "placement/inventory.h"

#include <algorithm>
#include <charconv>

namespace hybrid {
namespace {

constexpr std::string_view kRoleNames[] = {"embedding", "output",      "norm",   "attention",
                                           "dense",     "router",      "shared", "routed gate",
                                           "routed up", "routed down", "other"};
static_assert(std::size(kRoleNames) == static_cast<size_t>(TensorRole::other) + 1);

/// What follows "blk.N." in a tensor's name; the layer's number in `layer`, or -1.
std::string_view name_in_layer(std::string_view name, int& layer) {
  layer = -1;
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return name;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  int n = 0;
  const auto [at, error] = std::from_chars(begin, end, n);
  if (error != std::errc() || at == end || *at != '.' || n < 0) return name;
  layer = n;
  return name.substr(static_cast<size_t>(at + 1 - name.data()));
}

TensorRole role_in_layer(std::string_view name) {
  const std::string_view stem = name.substr(0, name.find('.'));
  if (stem.ends_with("_norm")) return TensorRole::norm;
  if (stem.starts_with("attn_")) return TensorRole::attention;
  if (stem == "ffn_gate_inp" || stem == "exp_probs_b") return TensorRole::router;
  if (stem == "ffn_gate_exps") return TensorRole::routed_gate;
  if (stem == "ffn_up_exps" || stem == "ffn_gate_up_exps") return TensorRole::routed_up;
  if (stem == "ffn_down_exps") return TensorRole::routed_down;
  if (stem.starts_with("ffn_") && stem.ends_with("_shexp")) return TensorRole::shared;
  if (stem == "ffn_gate" || stem == "ffn_up" || stem == "ffn_down") return TensorRole::dense;
  return TensorRole::other;
}

uint64_t bytes_per_token(const GgufTensorInfo& info, TensorRole role, uint32_t n_used) {
  if (role == TensorRole::embedding) return info.n_bytes / std::max<uint64_t>(info.ne[1], 1);
  if (!is_routed(role)) return info.n_bytes;
  const uint64_t n_experts = std::max<uint64_t>(info.ne[2], 1);
  return info.n_bytes / n_experts * std::min<uint64_t>(n_used, n_experts);
}

}  // namespace

std::string_view name_of(TensorRole role) { return kRoleNames[static_cast<size_t>(role)]; }

int layer_of(std::string_view name) {
  int layer = -1;
  name_in_layer(name, layer);
  return layer;
}

TensorRole role_of(std::string_view name) {
  int layer = -1;
  const std::string_view in_layer = name_in_layer(name, layer);
  if (layer >= 0) return role_in_layer(in_layer);
  if (name == "token_embd.weight") return TensorRole::embedding;
  if (name == "output.weight") return TensorRole::output;
  if (name == "output_norm.weight") return TensorRole::norm;
  return TensorRole::other;
}

std::vector<InventoryTensor> make_inventory(const GgufFile& file, uint32_t n_used) {
  std::vector<InventoryTensor> all;
  for (const GgufTensor& tensor : file.tensors()) {
    InventoryTensor t{.tensor = &tensor, .role = role_of(tensor.info.name)};
    t.layer = layer_of(tensor.info.name);
    if (is_routed(t.role)) t.n_experts = static_cast<uint32_t>(tensor.info.ne[2]);
    t.bytes_per_token = bytes_per_token(tensor.info, t.role, n_used);
    all.push_back(t);
  }
  return all;
}

}  // namespace hybrid
