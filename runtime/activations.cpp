#include "runtime/activations.h"

#include <array>

#include "base/rounding.h"

namespace hybrid {
namespace {

constexpr uint64_t kAlignment = 64;

struct FloatBuffer {
  float* Activations::*buffer;
  uint64_t n_per_token;
};

/// The one list of them: what is taken and what is counted cannot differ.
std::array<FloatBuffer, 10> float_buffers(const ModelConfig& c) {
  const MlaShape& mla = c.mla;
  const uint64_t n_heads = mla.n_heads;
  return {{
      {&Activations::hidden, c.n_embd},
      {&Activations::normed, c.n_embd},
      {&Activations::q_latent, mla.q_lora},
      {&Activations::q, n_heads * mla.qk_dim()},
      {&Activations::kv, mla.cache_row()},
      {&Activations::attended, n_heads * mla.v_dim},
      {&Activations::projected, c.n_embd},
      {&Activations::router, c.moe.n_experts},
      {&Activations::weights, c.moe.n_used},
      {&Activations::routed, c.n_embd},
  }};
}

uint64_t buffer_bytes(uint64_t n_values) { return round_up(n_values * sizeof(float), kAlignment); }

}  // namespace

static_assert(sizeof(float) == sizeof(int32_t));

uint64_t Activations::n_bytes(const ModelConfig& c, uint64_t n, bool split_experts) {
  uint64_t n_bytes = buffer_bytes(n * c.moe.n_used);  // ids
  for (const FloatBuffer& b : float_buffers(c)) n_bytes += buffer_bytes(n * b.n_per_token);
  if (split_experts) n_bytes += buffer_bytes(n * c.moe.n_used * c.n_embd);
  return n_bytes;
}

Activations Activations::at(std::byte* memory, const ModelConfig& c, uint64_t n,
                            bool split_experts) {
  Activations act;
  for (const FloatBuffer& b : float_buffers(c)) {
    act.*b.buffer = reinterpret_cast<float*>(memory);
    memory += buffer_bytes(n * b.n_per_token);
  }
  act.ids = reinterpret_cast<int32_t*>(memory);
  memory += buffer_bytes(n * c.moe.n_used);
  if (split_experts) act.slot_rows = reinterpret_cast<float*>(memory);
  return act;
}

}  // namespace hybrid
