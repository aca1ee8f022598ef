#pragma once
// A layer's operations on the CPU. Results depend neither on the workers nor on who calls.

#include <vector>

#include "attention/mla_attention.h"
#include "experts/moe_ffn.h"
#include "numa/workers.h"
#include "runtime/layer_ops.h"
#include "tensor/aligned_floats.h"
#include "tensor/rope.h"

namespace hybrid {

class HostOps : public LayerOps {
 public:
  struct Sizes {
    uint32_t max_tokens = 0;   // of a micro-batch
    uint32_t n_in_flight = 1;  // micro-batches that are begun and not ended
    bool fused_moe = true;     // see MoeFfnArgs
  };
  /// Takes the buffers. Throws Error where attention's limit of scratch is too small for any step.
  /// The config outlives it.
  HostOps(const ModelConfig& config, const MlaPlan& attention, const Sizes& sizes);

  /// Bytes that the constructor takes.
  static uint64_t n_bytes(const ModelConfig& config, const MlaPlan& attention, const Sizes& sizes);
  uint64_t held_bytes() const;  // what has really been taken

  const MlaPlan& attention() const { return attention_.plan(); }

  /// Who does the work from here on.
  void use(Workers& workers) { workers_ = &workers; }

  void begin(uint32_t slot, const MicroBatch& batch) override;
  void select(uint32_t slot) override;
  void embed(const TensorView& w, std::span<const int32_t> ids, float* to) override;
  void norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) override;
  void add(const float* x, float* y) override;
  void gather(const float* x, std::span<const uint32_t> rows, float* to) override;
  void set_input(const float* x, uint32_t n_rows, uint64_t n_cols, Precision precision) override;
  void product(const Weight& w, float* y) override;
  void rotate_queries(float* q) override;
  void store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) override;
  void attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) override;
  void gated_ffn(const FfnWeights& w, float* y) override;
  void route(const LayerWeights& w, uint32_t moe_layer, const float* logits, int32_t* ids,
             float* weights) override;
  void routed_experts(const RoutedExperts& experts, const int32_t* ids, const float* weights,
                      float* y) override;
  void expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) override;

 private:
  const ModelConfig& config_;
  Rope rope_;
  bool fused_moe_;
  Workers* workers_ = nullptr;

  struct Slot {
    MicroBatch batch;
    std::vector<CacheSegment> segments;
    AlignedFloats rope_table;  // [n_tokens][qk_rope]
  };
  std::vector<Slot> slots_;
  Slot* now_ = nullptr;
  MatmulInput input_;  // what products take, in their forms
  FfnScratch ffn_;     // of dense nets
  MoeFfnScratch moe_;
  MlaAttention attention_;
};

}  // namespace hybrid
