#pragma once
// The kernel behind activation_blocks.h, one per instruction set level.

#include "tensor/activation_blocks.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// quantize_group() of a level, and one block of quantize_row_to_words().
struct QuantizeGroup {
  void (*to_bytes)(const float* x, ActivationBlock& block, ActivationBlock* rest, uint32_t group);
  void (*to_words)(const float* x, ActivationBlock& first, ActivationBlock& second);
};

template <SimdLevel L>
QuantizeGroup quantize_group_at();

}  // namespace hybrid
