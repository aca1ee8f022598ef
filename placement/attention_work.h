#pragma once
// What attention computes, by arithmetic: its work in all modes, for predictions.

#include <cstdint>

#include "attention/attention_options.h"
#include "attention/mla_shape.h"

namespace hybrid {

struct AttentionWork {
  MlaShape shape = {};
  MlaMode mode = MlaMode::unabsorbed_prefill;
  DType cache_type = DType::f16;

  /// Multiplications and additions of a layer, all heads, of n_tokens behind n_past positions,
  /// products with the up-projections of keys and values among them.
  double flop(uint64_t n_past, uint64_t n_tokens) const;
};

}  // namespace hybrid
