#include "runtime/cuda_limits.h"

#include <algorithm>
#include <initializer_list>

#include "attention/mla_absorbed_cuda.h"
#include "attention/mla_prefill_cuda.h"
#include "base/error.h"
#include "base/units.h"
#include "experts/router_cuda.h"
#include "runtime/cuda_scratch.h"
#include "runtime/cuda_tables.h"

namespace hybrid {
namespace {

struct Limit {
  bool is_exceeded = false;
  std::string what = {};    // they do not do
  std::string remedy = {};  // "; give ..."
};

/// The first that is exceeded.
Limit first_of(std::initializer_list<Limit> limits) {
  for (const Limit& limit : limits) {
    if (limit.is_exceeded) return limit;
  }
  return {};
}

/// -fa 0 with less memory than a row of scores takes.
Limit score_limit(const MlaShape& mla, const AttentionOptions& options, uint32_t n_ctx) {
  const CudaScoreShape one{.n_heads = mla.n_heads, .n_tokens = 1};
  return {!options.flash && one.steps(n_ctx, options.max_scratch_bytes).n_tokens == 0,
          fmt::format("K*Q with -amb of {}: the scores and weights of one query and head over {} "
                      "tokens take {}",
                      format_bytes(options.max_scratch_bytes), n_ctx,
                      format_bytes(one.row_bytes(n_ctx))),
          "; raise it, or give -fa 1"};
}

Limit attention_limit(const ModelConfig& config, const AttentionOptions& options, uint32_t n_ctx) {
  const MlaShape& mla = config.mla;
  const MoeShape& moe = config.moe;
  const bool has_mode =
      options.mla == MlaMode::absorbed || options.mla == MlaMode::unabsorbed_prefill;
  const bool has_type = options.key_type == DType::f16 || options.key_type == DType::q8_0;
  const bool has_dims = mla.kv_lora == kLatentDim && mla.qk_rope == kRopeDim &&
                        mla.qk_nope == kNopeDim && mla.v_dim == kValueDim;
  return first_of({
      {!has_mode, fmt::format("attention of -mla {}", static_cast<int>(options.mla)),
       "; give -mla 2 or 3"},
      {!has_type, fmt::format("caches of -ctk {}", cache_type_name(options.key_type)),
       "; give -ctk f16 or q8_0"},
      {!has_dims, fmt::format("attention with latents of {} + {}, keys of {} + {} and values of {} "
                              "elements: kernels are for {} + {}, {} + {} and {}",
                              mla.kv_lora, mla.qk_rope, mla.qk_nope, mla.qk_rope, mla.v_dim,
                              kLatentDim, kRopeDim, kNopeDim, kRopeDim, kValueDim)},
      {moe.n_experts > kMaxCudaExperts,
       fmt::format("routing to {} experts: kernels are for {}", moe.n_experts, kMaxCudaExperts)},
      {moe.n_groups > kMaxCudaGroups,
       fmt::format("routing in {} groups: kernels are for {}", moe.n_groups, kMaxCudaGroups)},
      score_limit(mla, options, n_ctx),
  });
}

Limit layer_limit(const LayerWeights& w, const LayerPlacement& place, const ModelConfig& config,
                  const RunSettings& settings) {
  const ExecutionOptions& execution = settings.execution;
  if (place.home > 0) {
    if (Limit limit = attention_limit(config, execution.attention, settings.n_ctx);
        limit.is_exceeded) {
      return limit;
    }
    const char* projection = w.kv_up.is_split() ? "attn_v_b" : "attn_kv_b";
    if (mla_key_bytes(config.mla, w.kv_up) == 0) {
      return {true, fmt::format("attention with {} of F32", projection)};
    }
  }
  const uint32_t n_experts = config.moe.n_experts;
  const bool has_routed = place.split.empty()
                              ? place.routed > 0
                              : std::ranges::any_of(place.split, &PlacedExperts::processor);
  return first_of({
      {has_routed && n_experts > kMaxCudaExperts,
       fmt::format("{} experts: kernels are for {}", n_experts, kMaxCudaExperts)},
      {has_routed && !execution.fused_moe, "experts of -fmoe 0", "; give -fmoe 1"},
  });
}

}  // namespace

std::string cuda_refusal(const ModelView& view, const RunSettings& settings,
                         const ModelPlacement& where) {
  for (size_t i = 0; i < where.layers.size(); ++i) {
    const Limit limit = layer_limit(view.weights.layers[i], where.layers[i], view.config, settings);
    if (!limit.is_exceeded) continue;
    return fmt::format(
        "GPUs do not compute {} in this version (layer {}){}; --device none leaves all to the CPU",
        limit.what, i, limit.remedy);
  }
  return {};
}

std::string missing_cuda_library(const SequencePlan& plan, const ModelPlacement& where) {
  const auto attends = [](const LayerPlacement& layer) { return layer.home > 0; };
  if (!makes_cuda_scores(plan) || !std::ranges::any_of(where.layers, attends)) return {};
  std::string no_plugin;
  const CudaTables* const tables = cuda_tables(no_plugin);
  const char* const reason = tables == nullptr ? nullptr : tables->blas.why_missing();
  if (reason == nullptr) return {};
  return fmt::format(
      "-fa 0 on a GPU needs cuBLAS, which cannot be opened: {}; install it with the CUDA toolkit, "
      "say where it is in LD_LIBRARY_PATH, or give -fa 1",
      printable(reason, 300));
}

}  // namespace hybrid
