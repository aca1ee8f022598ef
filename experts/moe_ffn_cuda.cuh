#pragma once
// The kernel of moe_ffn_cuda.h that is its own; the others are products and row ops.

#include "experts/moe_ffn_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kCombineThreads = 256;

inline constexpr int kGatherThreads = 256;

HYBRID_KERNEL(kGatherThreads)
number_experts_kernel(uint32_t first, uint32_t n, uint32_t n_experts, int32_t* local) {
  const uint32_t e = blockIdx.x * kGatherThreads + threadIdx.x;
  if (e < n_experts) local[e] = e - first < n ? static_cast<int32_t>(e - first) : -1;
}

/// A block a slot: counts the slots before it that are here.
HYBRID_KERNEL(kGatherThreads) gather_slots_kernel(const GatherSlotsArgs a) {
  HYBRID_SHARED(counts, uint32_t[kGatherThreads / 32]);
  const uint32_t slot = blockIdx.x;
  if (a.local[a.ids[slot]] < 0) return;
  uint32_t n_before = 0;
  for (uint32_t s = threadIdx.x; s < slot; s += kGatherThreads) n_before += a.local[a.ids[s]] >= 0;
  n_before = warp_sum(n_before);
  if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = n_before;
  __syncthreads();
  uint64_t row = 0;
  for (int w = 0; w < kGatherThreads / 32; ++w) row += counts[w];
  const uint64_t place = a.places != nullptr ? static_cast<uint64_t>(a.places[slot]) : slot;
  for (uint32_t i = threadIdx.x; i < a.n_embd; i += kGatherThreads) {
    a.rows[row * a.n_embd + i] = a.out[place * a.n_embd + i];
  }
}

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
