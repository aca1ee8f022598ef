#pragma once
// Which experts were chosen for a run of tokens: recorded by one pass, replayed by another, so that
// two numeric paths can be compared without one flipped expert outweighing all rounding.

#include <cstdint>
#include <span>
#include <vector>

namespace hybrid {

struct ExpertChoice {
  uint32_t n_moe_layers = 0;
  uint32_t n_tokens = 0;
  uint32_t n_used = 0;
  std::vector<int32_t> ids;  // [n_moe_layers][n_tokens][n_used], best first

  ExpertChoice() = default;
  ExpertChoice(uint32_t n_moe_layers, uint32_t n_tokens, uint32_t n_used)
      : n_moe_layers(n_moe_layers),
        n_tokens(n_tokens),
        n_used(n_used),
        ids(uint64_t{n_moe_layers} * n_tokens * n_used, -1) {}

  std::span<int32_t> token(uint32_t moe_layer, uint32_t token) {
    return std::span(ids).subspan((uint64_t{moe_layer} * n_tokens + token) * n_used, n_used);
  }
  std::span<const int32_t> token(uint32_t moe_layer, uint32_t token) const {
    return std::span(ids).subspan((uint64_t{moe_layer} * n_tokens + token) * n_used, n_used);
  }
};

}  // namespace hybrid
