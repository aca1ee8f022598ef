#pragma once
// How attention over the latent cache is computed.

#include <cstdint>

namespace hybrid {

/// The number is that of the option -mla. Both read the same cache and compute the same function;
/// they differ in rounding.
enum class MlaMode {
  absorbed = 2,            // always on the latents themselves
  unabsorbed_prefill = 3,  // micro-batches of kMinUnabsorbedTokens on materialised keys and values
};

/// From this many queries on it pays to materialise keys and values: each costs qk_nope + v_dim
/// products of length kv_lora, and saves every query the longer dot products of the absorbed form.
/// Behind a long context the two break even here (DeepSeek-V2-Lite's shapes, 8192 positions,
/// Sapphire Rapids); without one the un-absorbed form is four times as fast.
inline constexpr uint32_t kMinUnabsorbedTokens = 16;

inline constexpr bool is_unabsorbed(MlaMode mode, uint64_t n_tokens) {
  return mode == MlaMode::unabsorbed_prefill && n_tokens >= kMinUnabsorbedTokens;
}

}  // namespace hybrid
