#pragma once
// A layer's operations on a simulated device: the CPU's, one after the other in its queue. So they
// give the CPU's bits, while what they are given, and when, is a device's.

#include <memory>

#include "runtime/host_ops.h"
#include "runtime/op_work.h"
#include "runtime/sequence_plan.h"
#include "tensor/simulated_device.h"

namespace hybrid {

class SimulatedOps : public LayerOps {
 public:
  /// All arguments outlive it; trace may be null. Of the device it takes ops_bytes() beside the
  /// rows.
  SimulatedOps(SimulatedDevice& device, SimulatedStream& stream, const ModelConfig& config,
               const SequencePlan& plan, Trace* trace);
  static uint64_t ops_bytes(const SequencePlan& plan);

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
  SimulatedStream& stream_;
  DeviceMemory scratch_;  // counted: the memory itself is that of ops_
  Workers workers_;
  HostOps host_;
  std::unique_ptr<LayerOps> traced_;  // host_ with zones
  LayerOps& ops_;
  OpWork work_;
};

}  // namespace hybrid
