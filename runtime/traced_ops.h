#pragma once
// A layer's operations, each a zone of a trace.

#include "base/trace.h"
#include "runtime/layer_ops.h"

namespace hybrid {

class TracedOps : public LayerOps {
 public:
  /// Both outlive it. Calls come from one thread at a time, whose zones stand in `track`.
  TracedOps(LayerOps& ops, Trace& trace, uint32_t track)
      : ops_(ops), trace_(trace), track_(track) {}

  void begin(uint32_t slot, const MicroBatch& batch) override { ops_.begin(slot, batch); }
  void select(uint32_t slot) override { ops_.select(slot); }
  void embed(const TensorView& w, std::span<const int32_t> ids, float* to) override;
  void norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) override;
  void add(const float* x, float* y) override;
  void gather(const float* x, std::span<const uint32_t> rows, float* to) override;
  void set_input(const float* x, uint32_t n_rows, uint64_t n_cols, Precision precision) override {
    ops_.set_input(x, n_rows, n_cols, precision);
  }
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
  Trace& trace_;
  uint32_t track_;
};

}  // namespace hybrid
