#pragma once
// What a GGUF consists of, as placement sees it: each tensor's part in the model, by its name, and
// what a token reads of it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gguf_file.h"

namespace hybrid {

enum class TensorRole {
  embedding,  // of a token one row is read
  output,
  norm,  // norms and biases: small, read by whoever computes what follows
  attention,
  dense,  // the feed-forward net of layers without experts
  router,
  shared,  // experts that every token takes
  routed_gate,
  routed_up,  // gate and up in one tensor, too
  routed_down,
  other,  // of no use to the model
};

std::string_view name_of(TensorRole role);  // "attention", "routed gate", ...

inline bool is_routed(TensorRole role) {
  return role == TensorRole::routed_gate || role == TensorRole::routed_up ||
         role == TensorRole::routed_down;
}

struct InventoryTensor {
  const GgufTensor* tensor = nullptr;
  TensorRole role = TensorRole::other;
  int layer = -1;                // -1: of no layer
  uint32_t n_experts = 0;        // of a routed tensor: its outermost dimension
  uint64_t bytes_per_token = 0;  // of the file's, that one decoded token reads
};

/// Role and layer by the names that GGUF files use.
TensorRole role_of(std::string_view name);
int layer_of(std::string_view name);

/// All tensors of the file, in its order. n_used: routed experts that a token takes.
std::vector<InventoryTensor> make_inventory(const GgufFile& file, uint32_t n_used);

}  // namespace hybrid
