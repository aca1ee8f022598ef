#pragma once
// Which experts a token goes to, and with which weights.
//
//   p        = softmax(logits) or sigmoid(logits)
//   s        = p + bias                 (selection score; the bias is optional)
//   groups   : the n_groups_used groups with the best group score stay, see GroupRule
//   chosen   = the n_used experts with the largest s, best first (ties: the lower id)
//   weight_k = p[chosen_k], divided by their sum if normalize_weights, times weights_scale

#include <cstdint>
#include <span>

#include "experts/moe_shape.h"

namespace hybrid {

/// One token. logits: [n_experts]; bias: [n_experts] or empty; ids, weights: [n_used].
/// Arithmetic is in double: a tie broken the other way outweighs all other rounding in a model.
void route_token(const MoeShape& shape, std::span<const float> logits, std::span<const float> bias,
                 std::span<int32_t> ids, std::span<float> weights);

/// The weights of a choice made elsewhere: p comes from these logits, the ids from the caller.
void weigh_choice(const MoeShape& shape, std::span<const float> logits,
                  std::span<const int32_t> ids, std::span<float> weights);

}  // namespace hybrid
