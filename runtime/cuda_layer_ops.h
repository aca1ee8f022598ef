#pragma once
// A layer's operations on a GPU, by the plugin's launch functions in one queue.
//
// Up to kCudaVectorTokens tokens, and with F32 weights (routers), products are sums of two rounds
// of bytes or of floats, as accurate as the CPU's; above, of bf16. What precision is asked for does
// not matter. Attention makes keys and values (-mla 3) where a sequence has more tokens than that
// in the step, -amb has room for those of a head, and it is cheaper. It goes in one pass over the
// keys; with -fa 0, where a sequence has more tokens than that, scores are in memory.

#include <vector>

#include "runtime/cuda_scored_attention.h"
#include "runtime/layer_ops.h"
#include "runtime/small_copies.h"
#include "tensor/cuda_device.h"

namespace hybrid {

class CudaLayerOps : public LayerOps {
 public:
  /// All arguments outlive it. Of the device it takes n_bytes(). Throws Error where there is no
  /// room.
  CudaLayerOps(CudaDevice& device, const CudaTables& tables, CudaQueue& queue,
               const ModelConfig& config, const SequencePlan& plan);
  static uint64_t n_bytes(const ModelConfig& config, const SequencePlan& plan);

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
  struct Input {
    const float* x = nullptr;
    uint32_t n_rows = 0;
    uint32_t n_cols = 0;
    bool has_blocks = false, has_bf16 = false;  // whether it was converted
  };

  void upload_constants(CudaDevice& device);
  /// Whether -amb has room for keys and values of a head.
  bool has_room_for_keys(const CudaAttendArgs& args) const;
  void attend_absorbed(const LayerWeights& w, const CudaAttendArgs& args);
  /// Queries absorbed: tokens [t, t + n) of it.
  void attend_in_one_pass(const CudaAttendArgs& args, uint32_t t, uint32_t n);
  void attend_with_keys(const LayerWeights& w, const CudaAttendArgs& args);
  /// y[t] = each head's rows of w times that head's row of x, [n_tokens][n_heads] rows. blocks:
  /// room for these, rounded, where w is quantised.
  void multiply_heads(const PanelMatrix& w, uint32_t n_tokens, DeviceRows<const float> x,
                      ActivationBlock* blocks, float* y);
  using HeadRange = CudaScoredAttention::HeadRange;
  void make_heads(const LayerWeights& w, const HeadRange& heads);
  MoeFfnCudaArgs experts_args(const ExpertPart& part, const int32_t* ids) const;
  void run_ffn(MoeFfnCudaArgs& args, float* y);

  DevicePanels panels(const Weight& w) const;
  DevicePanels panels(const PanelMatrix& w) const;

  const CudaTables& tables_;
  CudaQueue& queue_;
  const ModelConfig& config_;
  const MlaPlan& attention_;
  uint32_t n_multiprocessors_;
  DeviceMemory memory_;
  CudaScratch scratch_;
  std::unique_ptr<CudaScoredAttention> scored_;  // -fa 0
  SmallCopies copies_;

  struct Slot {
    uint32_t n_tokens = 0;
    std::vector<CacheSegment> segments;
    CudaScratch::Slot of_tokens;
  };
  std::vector<Slot> slots_;
  Slot* now_ = nullptr;
  Input input_;
};

}  // namespace hybrid
