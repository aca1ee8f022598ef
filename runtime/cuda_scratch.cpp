#include "runtime/cuda_scratch.h"

#include <algorithm>

#include "attention/mla_absorbed_cuda.h"
#include "base/memory_cutter.h"
#include "experts/moe_ffn_scratch_cuda.h"
#include "tensor/cuda_blas.h"

namespace hybrid {
namespace {

/// The longest rows that products take.
uint64_t max_input_cols(const ModelConfig& c) {
  return std::max<uint64_t>({c.n_embd, c.mla.q_lora, uint64_t{c.mla.n_heads} * c.mla.v_dim});
}

/// Of any step: fewer tokens are split into more parts.
uint64_t absorbed_parts_bytes(const MlaShape& mla, uint32_t max_tokens, uint32_t n_ctx) {
  uint64_t n_bytes = 0;
  MlaAbsorbedArgs args;
  args.n_heads = mla.n_heads;
  for (args.n_tokens = 1; args.n_tokens <= max_tokens; ++args.n_tokens) {
    args.n_splits = mla_absorbed_splits(mla.n_heads, args.n_tokens, n_ctx, kCudaMostSplitBlocks);
    n_bytes = std::max(n_bytes, mla_absorbed_scratch_bytes(args));
  }
  return n_bytes;
}

/// A net of any layer with up to n_tokens.
uint64_t ffn_bytes(uint64_t n_embd, uint64_t n_ff, uint32_t n_used, uint32_t n_experts,
                   uint32_t n_tokens) {
  static const std::byte kPanels{};
  static const int32_t kIds = 0;
  MoeFfnCudaArgs args;
  args.nets.gate.n_rows = static_cast<uint32_t>(n_ff);
  args.nets.down.n_cols = static_cast<uint32_t>(n_ff);
  args.nets.down.n_rows = static_cast<uint32_t>(n_embd);
  args.n_matrices = std::max(n_experts, 1u);
  args.n_experts = n_experts;
  args.n_used = n_used;
  args.ids = n_experts > 0 ? &kIds : nullptr;
  uint64_t n_bytes = 0;
  for (const std::byte* up : {static_cast<const std::byte*>(nullptr), &kPanels}) {  // merged, apart
    args.nets.up.data = up;
    for (const uint32_t n : {std::min(n_tokens, kMaxGemvTokens), n_tokens}) {
      args.n_tokens = n;
      n_bytes = std::max(n_bytes, moe_ffn_scratch_bytes(args));
    }
  }
  return n_bytes;
}

uint64_t max_ffn_bytes(const ModelConfig& c, uint32_t n_tokens) {
  uint64_t n_bytes = 0;
  if (c.n_dense_lead > 0) n_bytes = ffn_bytes(c.n_embd, c.n_ff_dense, 1, 0, n_tokens);
  if (c.moe.n_experts == 0) return n_bytes;
  const uint64_t shared = uint64_t{c.moe.n_shared} * c.moe.ff_dim;
  return std::max({n_bytes, ffn_bytes(c.n_embd, shared, 1, 0, n_tokens),
                   ffn_bytes(c.n_embd, c.moe.ff_dim, c.moe.n_used, c.moe.n_experts, n_tokens)});
}

bool makes_keys(const SequencePlan& plan) {
  return plan.attention.options().mla == MlaMode::unabsorbed_prefill &&
         plan.n_ubatch > kCudaVectorTokens;
}

/// In one pass.
uint32_t heads_at_a_time(const MlaShape& mla, const SequencePlan& plan) {
  const AttentionOptions& options = plan.attention.options();
  if (!makes_keys(plan) || makes_cuda_scores(plan)) return 0;
  if (options.max_scratch_bytes == 0) return mla.n_heads;
  const uint64_t of_head = uint64_t{plan.n_ctx} * (mla.qk_nope + mla.v_dim) * sizeof(bf16_t);
  return static_cast<uint32_t>(
      std::min<uint64_t>(options.max_scratch_bytes / of_head, mla.n_heads));
}

/// made_dim 0: on latents.
CudaScratch::Scored take_scored(MemoryCutter& cut, const MlaShape& mla, const SequencePlan& plan,
                                uint32_t n_tokens, uint32_t made_dim) {
  const uint64_t n_ctx = plan.n_ctx, n_rows = uint64_t{n_tokens} * mla.n_heads;
  CudaScratch::Scored s;
  s.made_dim = made_dim;
  s.latents = cut.take<bf16_t>(n_ctx * mla.kv_lora);
  s.rope_keys = cut.take<bf16_t>(n_ctx * mla.qk_rope);
  s.queries = cut.take<bf16_t>(n_rows * (made_dim > 0 ? mla.qk_dim() : mla.kv_lora));
  s.rope_queries = cut.take<bf16_t>(made_dim > 0 ? 0 : n_rows * mla.qk_rope);
  s.step_bytes = s.shape(mla, n_tokens).n_bytes(n_ctx, plan.attention.options().max_scratch_bytes);
  s.step = cut.take<std::byte>(s.step_bytes);
  return s;
}

}  // namespace

CudaScratch::CudaScratch(std::byte* memory, const ModelConfig& c, const SequencePlan& plan) {
  const MlaShape& mla = c.mla;
  const uint64_t n = plan.n_ubatch, n_ctx = plan.n_ctx;
  MemoryCutter cut(memory);
  for (uint32_t i = 0; i < plan.n_in_flight; ++i) {
    Slot slot{};
    slot.positions = cut.take<int32_t>(2 * n);
    slot.token_ids = cut.take<int32_t>(n);
    slot.rope_table = cut.take<float>(n * mla.qk_rope);
    slots.push_back(slot);
  }
  frequencies = cut.take<double>(mla.qk_rope / 2);
  grids = cut.take<GridTables>(1);
  input_blocks =
      cut.take<ActivationBlock>(kCudaVectorTokens * activation_row_blocks(max_input_cols(c)));
  input_bf16 = cut.take<bf16_t>(n * bf16_row_stride(max_input_cols(c)));

  const bool has_scores = makes_cuda_scores(plan);
  blas_workspace = cut.take<std::byte>(has_scores ? kCudaBlasWorkspaceBytes : 0);

  const uint64_t shared_from = cut.position();
  absorbed_tokens = std::min(plan.n_ubatch, kCudaAbsorbedTokens);
  const uint64_t n_rows = uint64_t{absorbed_tokens} * mla.n_heads;
  absorbed_queries = cut.take<float>(n_rows * mla.kv_lora);
  absorbed_latents = cut.take<float>(n_rows * mla.kv_lora);
  latent_blocks = cut.take<ActivationBlock>(n_rows * activation_row_blocks(mla.kv_lora));
  const uint64_t parts_from = cut.position();
  absorbed_parts = reinterpret_cast<float*>(
      cut.take<std::byte>(absorbed_parts_bytes(mla, absorbed_tokens, plan.n_ctx)));
  if (has_scores) {
    cut.go_back_to(parts_from);
    on_latents = take_scored(cut, mla, plan, absorbed_tokens, 0);
    cut.go_back_to(shared_from);
    if (makes_keys(plan)) {
      with_keys = take_scored(cut, mla, plan, plan.n_ubatch, mla.qk_nope + mla.v_dim);
    }
  }

  cut.go_back_to(shared_from);
  prefill_heads = heads_at_a_time(mla, plan);
  const uint64_t n_made = prefill_heads > 0 ? n_ctx : 0;
  latents = cut.take<bf16_t>(n_made * mla.kv_lora);
  rope_keys = cut.take<bf16_t>(n_made * mla.qk_rope);
  keys = cut.take<bf16_t>(n_made * prefill_heads * mla.qk_nope);
  values = cut.take<bf16_t>(n_made * prefill_heads * mla.v_dim);

  cut.go_back_to(shared_from);
  ffn = cut.take<std::byte>(max_ffn_bytes(c, plan.n_ubatch));
  n_bytes = cut.n_bytes();
}

}  // namespace hybrid
