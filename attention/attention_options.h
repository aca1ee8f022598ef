#pragma once
// How attention is computed and what its cache holds. Every combination computes the same function;
// they differ in memory, speed and rounding.

#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace hybrid {

/// The number is that of the option -mla.
enum class MlaMode {
  standard = 0,             // keys and values of every head in the cache
  absorbed_transposed = 1,  // on cached latents; without flash a second, transposed copy of them
  absorbed = 2,             // on cached latents
  unabsorbed_prefill = 3,   // as 2, but keys and values are made for the step where that is cheaper
};

/// The types of cached rows, as -ctk and -ctv name them.
struct CacheType {
  std::string_view name;
  DType type;
};
inline constexpr CacheType kCacheTypes[] = {
    {"f32", DType::f32}, {"f16", DType::f16}, {"q8_0", DType::q8_0}};

/// "" for a type that rows cannot have.
inline std::string_view cache_type_name(DType type) {
  for (const CacheType& t : kCacheTypes) {
    if (t.type == type) return t.name;
  }
  return {};
}

struct AttentionOptions {
  MlaMode mla = MlaMode::unabsorbed_prefill;
  bool flash = true;  // softmax runs along; otherwise all scores of a step (K*Q) are in memory
  /// Most bytes of K*Q, and of the keys and values that -mla 3 makes; 0: no limit.
  uint64_t max_scratch_bytes = uint64_t{512} << 20;
  DType key_type = DType::f16;    // of cached rows, one of kCacheTypes
  DType value_type = DType::f16;  // of cached values, where they are rows of their own

  /// Whether the values lie in the cache once more, transposed.
  bool keeps_transposed() const { return mla == MlaMode::absorbed_transposed && !flash; }
};

}  // namespace hybrid
