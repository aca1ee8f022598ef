#pragma once
// Softmax and the gated activation of the feed-forward nets.

#include <cmath>
#include <cstdint>

namespace hybrid {

/// x[i] = exp(x[i] - max) / sum, in place. n >= 1; -infinity entries become 0. The sum is a double.
void softmax(float* x, uint64_t n);

inline float silu(float x) { return x / (1.0f + std::exp(-x)); }

/// gate[i] = silu(gate[i]) * up[i]
void silu_mul(float* gate, const float* up, uint64_t n);

}  // namespace hybrid
