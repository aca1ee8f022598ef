#pragma once
// The CPU's operations beside simulated devices, timed as they are: on a clock that goes on by what
// rates say of each operation's work, while the operations run as they always do.

#include "runtime/op_work.h"

namespace hybrid {

class ModelledHostOps : public LayerOps {
 public:
  /// All arguments outlive it.
  ModelledHostOps(LayerOps& ops, HostClock& clock, const ModelConfig& config,
                  const SequencePlan& plan)
      : ops_(ops), clock_(clock), work_(config, plan) {}

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
  LayerOps& ops_;
  HostClock& clock_;
  OpWork work_;
};

}  // namespace hybrid
