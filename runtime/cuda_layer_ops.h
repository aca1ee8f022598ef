#pragma once
// A layer's operations on a GPU, by the plugin's launch functions in one queue.
//
// Up to kCudaVectorTokens tokens, and with F32 weights (routers), products are sums of two rounds
// of bytes or of floats, as accurate as the CPU's; above, of bf16. What precision is asked for does
// not matter. Attention makes keys and values (-mla 3) where a sequence has more tokens than that
// in the step, -amb has room for those of a head, and it is cheaper.

#include <vector>

#include "runtime/cuda_scratch.h"
#include "runtime/cuda_tables.h"
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
  /// Of one layer and segment.
  struct AttendArgs {
    CacheRow row;
    const std::byte* cache = nullptr;
    uint32_t first_token = 0;  // of the micro-batch
    uint32_t first_position = 0;
    uint32_t n_tokens = 0;
    const float* q = nullptr;  // of the first token
    float* out = nullptr;
  };

  void upload_constants(CudaDevice& device);
  void attend_absorbed(const LayerWeights& w, const AttendArgs& args);
  void attend_with_keys(const LayerWeights& w, const AttendArgs& args);
  /// y[t] = each head's rows of w times that head's row of x, [n_tokens][n_heads] rows. blocks:
  /// room for these, rounded, where w is quantised.
  void multiply_heads(const PanelMatrix& w, uint32_t n_tokens, DeviceRows<const float> x,
                      ActivationBlock* blocks, float* y);
  /// Keys or values of heads [first, first + n_heads), from the latents.
  void make_heads(const PanelMatrix& w, uint32_t first, uint32_t n_heads, uint32_t n_positions,
                  bf16_t* to);
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
