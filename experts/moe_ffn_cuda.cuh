#pragma once
// The kernel of moe_ffn_cuda.h that is its own; the others are products and row ops.

#include "experts/moe_ffn_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kCombineThreads = 256;

/// A thread an element; grid.x: tokens.
HYBRID_KERNEL(kCombineThreads) combine_slots_kernel(const CombineSlotsArgs a) {
  const uint32_t i = blockIdx.y * kCombineThreads + threadIdx.x;
  if (i >= a.n_embd) return;
  float sum = 0;
  for (uint32_t k = 0; k < a.n_used; ++k) {
    const uint32_t slot = blockIdx.x * a.n_used + k;
    auto place = static_cast<int32_t>(slot);
    if (a.places != nullptr) {
      place = a.places[slot];
    } else if (a.local != nullptr && a.local[a.ids[slot]] < 0) {
      place = -1;
    }
    if (place < 0) continue;
    const float weight = a.weights != nullptr ? a.weights[slot] : 1.0f;
    sum = fmaf(weight, a.out[static_cast<uint64_t>(place) * a.n_embd + i], sum);
  }
  a.y.data[blockIdx.x * a.y.stride + i] = sum;
}

}  // namespace hybrid::cuda
