#pragma once
// Attention with scores in memory (-fa 0) on a GPU: products by cuBLAS, a softmax over whole rows.
//
//   scores  = q * k^T + q_rope * rope_keys^T      of some heads, and some of their tokens
//   weights = softmax(kq_scale * scores)          bf16
//   out     = weights * v
//
// For more than kCudaVectorTokens tokens of a sequence; -amb limits a step (cuda_score_steps.h).

#include <functional>
#include <memory>

#include "runtime/cuda_scratch.h"
#include "runtime/cuda_tables.h"
#include "tensor/cuda_device.h"

namespace hybrid {

/// Attention of one layer and segment.
struct CudaAttendArgs {
  CacheRow row;
  const std::byte* cache = nullptr;
  uint32_t first_token = 0;  // of the micro-batch
  uint32_t first_position = 0;
  uint32_t n_tokens = 0;
  const float* q = nullptr;  // of the first token, [n_tokens][n_heads][qk_dim]
  float* out = nullptr;      // [n_tokens][n_heads][v_dim]

  uint32_t n_positions() const { return first_position + n_tokens; }
};

class CudaScoredAttention {
 public:
  /// All arguments outlive it. Where cuBLAS is not there it can do nothing: models that need it are
  /// refused before (cuda_limits.h). A failure is kept by the queue.
  CudaScoredAttention(const CudaTables& tables, CudaQueue& queue, const CudaScratch& scratch,
                      const ModelConfig& config);

  /// Whether -amb has room for keys and values of one head, and a row of its scores.
  bool has_room_for_keys(const CudaAttendArgs& a) const;

  /// Makes keys and values of heads [first, first + n) over all positions of the latents, rows of
  /// n * qk_nope and n * v_dim.
  struct HeadRange {
    uint32_t first, n, n_positions;
    const bf16_t* latents;
    bf16_t *keys, *values;
  };
  using MakeHeads = std::function<void(const HeadRange&)>;
  void attend_with_keys(const CudaAttendArgs& a, const MakeHeads& make_heads) const;

  /// On latents: first the rows of the cache, once; then tokens [first, first + n) of them.
  /// queries, out: [n][n_heads][kv_lora] floats, n at most CudaScratch::absorbed_tokens.
  void load_latents(const CudaAttendArgs& a) const;
  void attend_on_latents(const CudaAttendArgs& a, uint32_t first, uint32_t n, const float* queries,
                         float* out) const;

 private:
  /// Heads of one step, or on latents of all of them.
  struct Step {
    uint32_t n_heads = 0, n_tokens = 0, first_position = 0;
    uint32_t key_dim = 0, value_dim = 0;
    // Rows of tokens or positions, a matrix for each head.
    BatchedRows<const bf16_t> q, q_rope, k, v;
    const bf16_t* rope_keys = nullptr;  // all heads'
    BatchedRows<float> out;
    std::byte* memory = nullptr;  // for scores and weights
  };
  void run(const Step& step) const;
  void multiply(const RowGemm& product) const;
  void load_cache(const CudaAttendArgs& a, const CudaScratch::Scored& to) const;
  /// n_rows rows of n out of rows of `stride` floats, side by side.
  void to_bf16(const float* x, uint64_t stride, uint32_t n, uint64_t n_rows, bf16_t* y) const;

  const CudaTables& tables_;
  CudaQueue& queue_;
  const CudaScratch& scratch_;
  const ModelConfig& config_;
  std::unique_ptr<CudaBlas, void (*)(CudaBlas*)> blas_;
};

}  // namespace hybrid
