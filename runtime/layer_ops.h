#pragma once
// What a decoder layer asks of the processor that it runs on. There is one of these for the CPU
// (host_ops.h) and one for each device (simulated_ops.h, cuda_layer_ops.h).
//
// Pointers are of the processor's own memory, rows lie in it without gaps. A device's operations
// are queued and done in their order; what they were given stays until the queue has been waited
// for. Errors of theirs are thrown there.

#include <cstdint>
#include <functional>
#include <span>

#include "attention/kv_cache.h"
#include "experts/routes.h"
#include "runtime/expert_choice.h"
#include "runtime/weights.h"
#include "tensor/precision.h"

namespace hybrid {

/// Tokens that belong to one sequence, and the cache of its rows on this processor. They follow
/// what it holds.
struct CacheSegment {
  KvCache* cache = nullptr;  // null: no layer's cache lies here
  uint32_t first_position = 0;
  uint32_t n_tokens = 0;
};

/// What all layers of a step share.
struct MicroBatch {
  uint32_t n_tokens = 0;
  std::span<const CacheSegment> segments;  // one after the other, n_tokens together
  uint32_t choice_offset = 0;              // the micro-batch's first token in the two below
  const ExpertChoice* replay = nullptr;    // experts to use instead of the router's choice
  ExpertChoice* record = nullptr;          // filled with the experts used
};

/// The routed experts of a layer, where they are summed.
struct RoutedExperts {
  std::span<const ExpertPart> parts;  // a device's is one with all of them
  // The CPU's alone, where devices have some of them: what they made, and what waits for it.
  std::span<const ExpertRows> elsewhere = {};
  const std::function<void()>* arrive = nullptr;
};

class LayerOps {
 public:
  virtual ~LayerOps() = default;

  /// Begins micro-batch `slot` of those in flight, and selects it.
  virtual void begin(uint32_t slot, const MicroBatch& batch) = 0;
  /// The calls that follow are for that one. Its input has to be set anew.
  virtual void select(uint32_t slot) = 0;

  /// to[i] = row ids[i] of w, as it lies there (DeviceWeights). Ids are the host's, and copied
  /// where they are needed later.
  virtual void embed(const TensorView& w, std::span<const int32_t> ids, float* to) = 0;

  /// y = the RMS norm of n_rows rows; y may be x.
  virtual void norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) = 0;

  /// y += x, rows of n_embd.
  virtual void add(const float* x, float* y) = 0;

  /// to[i] = row rows[i] of x, rows of n_embd. rows[i] >= i; to may be x. As ids above.
  virtual void gather(const float* x, std::span<const uint32_t> rows, float* to) = 0;

  /// The rows that the products and nets that follow take, until the next call.
  virtual void set_input(const float* x, uint32_t n_rows, uint64_t n_cols, Precision precision) = 0;

  /// y[t][r] = w[r] . input[t]
  virtual void product(const Weight& w, float* y) = 0;

  /// Rotates the rotary part of each head's query to its position.
  virtual void rotate_queries(float* q) = 0;

  /// kv: the rows of kv_a. Norms their latents, rotates the shared key, and keeps them in the
  /// cache.
  virtual void store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) = 0;

  /// q: [n_tokens][n_heads][qk_dim]; out: [n_tokens][n_heads][v_dim].
  virtual void attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) = 0;

  /// y = down(silu(gate x) * up x) of the input.
  virtual void gated_ffn(const FfnWeights& w, float* y) = 0;

  /// The experts of each token, by the router (or as replayed), and what their results weigh.
  virtual void route(const LayerWeights& w, uint32_t moe_layer, const float* logits, int32_t* ids,
                     float* weights) = 0;

  /// y[t] = sum over k of weights[t][k] * expert ids[t][k] of the input.
  virtual void routed_experts(const RoutedExperts& experts, const int32_t* ids,
                              const float* weights, float* y) = 0;

  /// ExpertRows of one part of a layer's experts, for their sum on the CPU.
  virtual void expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) = 0;
};

}  // namespace hybrid
