#pragma once
// The exponent of a panel: how far its weights can be scaled up in half floats.

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hybrid {

/// The exponent e that pack_panel() returns, from the scales of the blocks alone: every weight
/// times 2^e is smaller than 2^15. 0 for BF16, F32 and blocks of zeros; scales that are no finite
/// numbers do not count.
int8_t panel_exponent(DType type, const std::byte* blocks, uint64_t n_blocks);

}  // namespace hybrid
