#pragma once
// The memory of CudaLayerOps beside the rows of a micro-batch: taken once, and planned by the same
// lines, also for machines that have no CUDA.

#include <vector>

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

  // The following three are not used at the same time, and share memory.

  // Attention on latents, [absorbed_tokens][n_heads] rows.
  uint32_t absorbed_tokens;
  float* absorbed_queries;         // kv_lora
  float* absorbed_latents;         // kv_lora
  ActivationBlock* latent_blocks;  // the same, rounded
  float* absorbed_parts;

  // Attention with made keys, [n_ctx] rows; none where prefill_heads is 0.
  uint32_t prefill_heads;  // at a time: as many as -amb has room for
  bf16_t* latents;         // kv_lora
  bf16_t* rope_keys;       // qk_rope
  bf16_t* keys;            // prefill_heads * qk_nope
  bf16_t* values;          // prefill_heads * v_dim

  std::byte* ffn;  // of moe_ffn_cuda()

  uint64_t n_bytes;
};

}  // namespace hybrid
