#pragma once
// The rows of a micro-batch between the operations of a layer, in the memory of the processor that
// computes them. All [n_tokens][dim] without gaps.

#include <cstddef>
#include <cstdint>

#include "runtime/model_config.h"

namespace hybrid {

struct Activations {
  float* hidden = nullptr;     // n_embd: the residual stream
  float* normed = nullptr;     // n_embd
  float* q_latent = nullptr;   // q_lora
  float* q = nullptr;          // n_heads * qk_dim
  float* kv = nullptr;         // cache_row
  float* attended = nullptr;   // n_heads * v_dim
  float* projected = nullptr;  // n_embd: what attention, a dense net or the shared expert adds
  float* router = nullptr;     // n_experts
  float* weights = nullptr;    // n_used
  float* routed = nullptr;     // n_embd: what the routed experts add
  int32_t* ids = nullptr;      // n_used
  /// n_used * n_embd, where layers' experts are split: rows of slots on their way to the sum.
  float* slot_rows = nullptr;

  /// Bytes that micro-batches of up to max_tokens take.
  static uint64_t n_bytes(const ModelConfig& config, uint64_t max_tokens, bool split_experts);
  /// In memory of n_bytes(), 64-byte aligned.
  static Activations at(std::byte* memory, const ModelConfig& config, uint64_t max_tokens,
                        bool split_experts);
};

}  // namespace hybrid
