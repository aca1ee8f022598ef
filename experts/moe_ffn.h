#pragma once
// The routed experts of one layer, gate and up fused:
//
//   hidden[t,k] = silu(gate_e x_t) * (up_e x_t)     e = ids[t,k]
//   y_t        += sum_k weights[t,k] * down_e hidden[t,k]
//
// Each (token, k) has a slot of its own that one task writes, and slots are summed in the order of
// k. So neither threads nor the other tokens of the batch change a bit of a token's result.

#include <cstdint>
#include <span>
#include <vector>

#include "experts/moe_shape.h"
#include "numa/workers.h"

namespace hybrid {

struct MoeFfnArgs {
  const float* x = nullptr;  // [n_tokens][n_embd]
  float* y = nullptr;        // [n_tokens][n_embd], added to
  uint32_t n_tokens = 0;
  uint32_t n_embd = 0;
  std::span<const int32_t> ids;    // [n_tokens][n_used]
  std::span<const float> weights;  // [n_tokens][n_used]
};

/// The large buffers, kept between calls.
struct MoeFfnScratch {
  /// Takes what n_tokens need.
  void reserve(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens);
  /// Bytes that reserve() takes.
  static uint64_t n_bytes(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens);

  std::vector<float> x_sorted;  // [slots][n_embd], in expert order
  std::vector<float> hidden;  // [slots][2 * ff_dim], in expert order: gate (then the product) | up
  std::vector<float> out;     // [slots][n_embd], in expert order
};

void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, const ExpertWeights& experts,
             MoeFfnScratch& scratch, Workers& workers);

}  // namespace hybrid
