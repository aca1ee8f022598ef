#pragma once
// Softmax and the gated activation of the feed-forward nets.

#include <cstdint>

namespace hybrid {

/// x[i] = exp(x[i] - max) / sum, in place. n >= 1; -infinity entries become 0. The sum is a double.
void softmax(float* x, uint64_t n);

/// gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x))
void silu_mul(float* gate, const float* up, uint64_t n);

}  // namespace hybrid
