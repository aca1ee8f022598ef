#pragma once
// The memory of CudaLayerOps beside the rows of a micro-batch: taken once, and planned by the same
// lines, also for machines that have no CUDA.

#include <vector>

#include "runtime/cuda_score_steps.h"
#include "runtime/model_config.h"
#include "runtime/sequence_plan.h"
#include "tensor/activation_blocks_cuda.h"
#include "tensor/grid_tables.h"

namespace hybrid {

/// Up to so many tokens products are made a vector at a time, as in moe_ffn_cuda.h.
inline constexpr uint32_t kCudaVectorTokens = 8;
/// Tokens that attention on latents takes at a time.
inline constexpr uint32_t kCudaAbsorbedTokens = 64;
/// Blocks that it is split into, at most: more multiprocessors than today's GPUs have. Scratch
/// should not depend on the GPU.
inline constexpr uint32_t kCudaMostSplitBlocks = 192;

/// Whether attention keeps scores in memory (-fa 0), with products by cuBLAS: up to
/// kCudaVectorTokens tokens it never does.
inline bool makes_cuda_scores(const SequencePlan& plan) {
  return !plan.attention.options().flash && plan.n_ubatch > kCudaVectorTokens;
}

struct CudaScratch {
  /// Without memory it only counts.
  CudaScratch(std::byte* memory, const ModelConfig& config, const SequencePlan& plan);

  /// What a micro-batch in flight knows of its tokens.
  struct Slot {
    int32_t* positions;  // [2 * n_ubatch]: positions, and how many each sees
    int32_t* token_ids;  // [n_ubatch]
    float* rope_table;   // [n_ubatch][qk_rope]
  };
  std::vector<Slot> slots;
  double* frequencies;  // [qk_rope / 2]
  GridTables* grids;

  // What follows is for one operation after the other, whichever micro-batch it is of.

  // The input of products, in the form that they take.
  ActivationBlock* input_blocks;  // [kCudaVectorTokens] rows
  bf16_t* input_bf16;             // [n_ubatch] rows

  std::byte* blas_workspace;  // kCudaBlasWorkspaceBytes, where there are scores

  // The following are not used at the same time, and share memory: attention on latents with either
  // parts or scores, with made keys in one pass or with scores, nets.

  // Attention on latents, [absorbed_tokens][n_heads] rows.
  uint32_t absorbed_tokens;
  float* absorbed_queries;         // kv_lora
  float* absorbed_latents;         // kv_lora
  ActivationBlock* latent_blocks;  // the same, rounded
  float* absorbed_parts;

  /// Attention with scores in memory.
  struct Scored {
    uint32_t made_dim = 0;           // of keys and values that are made; 0: on latents
    bf16_t* latents = nullptr;       // [n_ctx][kv_lora]
    bf16_t* rope_keys = nullptr;     // [n_ctx][qk_rope]
    bf16_t* queries = nullptr;       // of all heads: whole ones; on latents absorbed ones
    bf16_t* rope_queries = nullptr;  // of all heads; on latents only
    std::byte* step = nullptr;       // see cuda_score_steps.h
    uint64_t step_bytes = 0;         // at most -amb; 0: not used

    CudaScoreShape shape(const MlaShape& mla, uint32_t n_tokens) const {
      return {mla.n_heads, n_tokens, made_dim};
    }
  };
  Scored on_latents;  // of absorbed_tokens; beside the arrays above, in the place of absorbed_parts
  Scored with_keys;   // of n_ubatch tokens

  // Attention with made keys in one pass, [n_ctx] rows; none where prefill_heads is 0.
  uint32_t prefill_heads;  // at a time: as many as -amb has room for
  bf16_t* latents;         // kv_lora
  bf16_t* rope_keys;       // qk_rope
  bf16_t* keys;            // prefill_heads * qk_nope
  bf16_t* values;          // prefill_heads * v_dim

  std::byte* ffn;  // of moe_ffn_cuda()

  uint64_t n_bytes;
};

}  // namespace hybrid
