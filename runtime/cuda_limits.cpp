#include "runtime/cuda_limits.h"

#include <algorithm>
#include <initializer_list>

#include "attention/mla_absorbed_cuda.h"
#include "attention/mla_prefill_cuda.h"
#include "base/error.h"
#include "experts/router_cuda.h"

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

Limit attention_limit(const ModelConfig& config, const AttentionOptions& options) {
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
  });
}

Limit layer_limit(const LayerWeights& w, const LayerPlacement& place, const ModelConfig& config,
                  const ExecutionOptions& execution) {
  if (place.home > 0) {
    if (Limit limit = attention_limit(config, execution.attention); limit.is_exceeded) return limit;
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
    const Limit limit =
        layer_limit(view.weights.layers[i], where.layers[i], view.config, settings.execution);
    if (!limit.is_exceeded) continue;
    return fmt::format(
        "GPUs do not compute {} in this version (layer {}){}; --device none leaves all to the CPU",
        limit.what, i, limit.remedy);
  }
  return {};
}

}  // namespace hybrid
