#pragma once
// The dimensions and the routing rule of a mixture-of-experts layer.

#include <cstdint>
#include <string_view>

#include "tensor/weight.h"

namespace hybrid {

/// How router logits become probabilities (the values are GGUF's expert_gating_func).
enum class Gating : uint32_t { softmax = 1, sigmoid = 2 };

/// How a group of experts is scored in group-limited routing.
enum class GroupRule {
  none,      // plain top-k over all experts
  top2_sum,  // the sum of the two largest selection scores (V3)
  max,       // the largest one (V2)
};

std::string_view name_of(Gating gating);
std::string_view name_of(GroupRule rule);

struct MoeShape {
  uint32_t n_experts = 0;
  uint32_t n_used = 0;    // experts per token
  uint32_t n_shared = 0;  // shared experts, fused into one feed-forward net
  uint32_t ff_dim = 0;    // hidden dimension of one routed expert
  Gating gating = Gating::softmax;
  bool selection_bias = false;  // the layers have exp_probs_b
  bool normalize_weights = false;
  float weights_scale = 1;
  GroupRule group_rule = GroupRule::none;
  uint32_t n_groups = 1;
  uint32_t n_groups_used = 1;
};

/// The routed experts' weights of one layer. Either gate and up stand apart, or gate_up holds per
/// expert first the gate rows, then the up rows.
struct ExpertWeights {
  Weight gate;     // {n_embd, ff_dim, n_experts}
  Weight up;       // {n_embd, ff_dim, n_experts}
  Weight gate_up;  // {n_embd, 2 * ff_dim, n_experts}
  Weight down;     // {ff_dim, n_embd, n_experts}

  bool is_merged() const { return !gate_up.empty(); }

  // The matrices of expert e.
  Weight gate_of(uint64_t e) const {
    return is_merged() ? gate_up.slice(e).part(0, gate_up.n_rows() / 2) : gate.slice(e);
  }
  Weight up_of(uint64_t e) const {
    if (!is_merged()) return up.slice(e);
    return gate_up.slice(e).part(gate_up.n_rows() / 2, gate_up.n_rows() / 2);
  }
  Weight down_of(uint64_t e) const { return down.slice(e); }

  /// Experts [first, first + n).
  ExpertWeights range(uint64_t first, uint64_t n) const {
    const auto cut = [&](const Weight& w) { return w.empty() ? w : w.range(first, n); };
    return {cut(gate), cut(up), cut(gate_up), cut(down)};
  }
};

/// The experts of a layer that one processor has: all of them, or [first, first + n).
struct ExpertPart {
  uint32_t first = 0;
  uint32_t n = 0;
  ExpertWeights w = {};  // stacks of n

  bool has(uint32_t e) const { return e - first < n; }
};

}  // namespace hybrid
