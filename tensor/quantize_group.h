#pragma once
// The kernel behind activation_blocks.h, one per instruction set level.

#include "tensor/activation_blocks.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// quantize_group() of a level.
using QuantizeGroupFn = void (*)(const float* x, ActivationBlock& block, ActivationBlock* rest,
                                 uint32_t group);

template <SimdLevel L>
QuantizeGroupFn quantize_group_at();

/// Of the level in force.
QuantizeGroupFn quantize_group_fn();

}  // namespace hybrid
