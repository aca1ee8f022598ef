#pragma once
// What the decoders of all families share.

#include <cstddef>
#include <cstdint>

#include "tensor/quant_blocks.h"

namespace hybrid::internal {

/// Runs decode(block, dst) over n elements. Without `restrict` the compiler would have to assume
/// that writing dst changes the block's bytes, and would vectorise nothing below.
template <class Block, void (*decode)(const Block&, float*)>
void decode_blocks(const std::byte* src, float* __restrict dst, uint64_t n) {
  static_assert(alignof(Block) == 1);  // so src may be any address
  for (uint64_t i = 0; i < n; i += Block::kSize, src += sizeof(Block)) {
    decode(*reinterpret_cast<const Block*>(src), dst + i);
  }
}

/// y[i] = d * q[i]
template <int n, class Int>
inline void store_scaled(float* y, float d, const Int* q) {
  for (int i = 0; i < n; ++i) y[i] = d * static_cast<float>(q[i]);
}

/// y[i] = d * q[i] + m. Subtracting a minimum is adding -m, exactly.
template <int n, class Int>
inline void store_scaled(float* y, float d, float m, const Int* q) {
  for (int i = 0; i < n; ++i) y[i] = d * static_cast<float>(q[i]) + m;
}

/// A word whose byte i is bit i of `bits`: eight flags at once, without a shift that differs per
/// lane, which SSE2 and scalar code lack.
inline uint64_t spread_bits(uint8_t bits) {
  const uint64_t in_place = (bits * 0x0101010101010101u) & 0x8040201008040201u;
  return ((in_place + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
}

}  // namespace hybrid::internal
