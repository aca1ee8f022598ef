#pragma once
// Blocks to floats, exactly as the formats define it: the scale arithmetic of each type is done in
// float in the same order as ggml's reference, so results are equal bit for bit.

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// Decodes n elements (a multiple of the type's block size) that start at a block boundary.
/// src: n / block_size * block_bytes bytes, any alignment. dst: n floats.
using DequantizeFn = void (*)(const std::byte* src, float* dst, uint64_t n);

/// The decoder of one level; every level gives the same bits. Null for a number that is no DType.
template <SimdLevel L>
DequantizeFn dequantize_fn_at(DType type);

/// That of the level in force. Never null: every DType has a decoder.
DequantizeFn dequantize_fn(DType type);

inline void dequantize(DType type, const std::byte* src, float* dst, uint64_t n) {
  dequantize_fn(type)(src, dst, n);
}

}  // namespace hybrid
