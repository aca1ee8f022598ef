#include "placement/attention_work.h"

#include <algorithm>

#include "attention/mla_attention.h"

namespace hybrid {

double AttentionWork::flop(uint64_t n_past, uint64_t n_tokens) const {
  const double absorbed = absorbed_cost(shape, n_past, n_tokens);
  const double unabsorbed = unabsorbed_cost(shape, n_past, n_tokens);
  double per_head = absorbed;
  switch (mode) {
    case MlaMode::standard:  // keys and values of the tokens alone are made, the others are cached
      per_head = unabsorbed - unabsorbed_cost(shape, n_past, 0);
      break;
    case MlaMode::unabsorbed_prefill:
      if (n_tokens > 1) per_head = std::min(absorbed, unabsorbed);
      break;
    default:
      break;
  }
  return 2 * shape.n_heads * per_head;
}

}  // namespace hybrid
