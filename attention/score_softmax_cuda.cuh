#pragma once
// The kernel of score_softmax_cuda.h. A block: a row; a thread: two positions of each 512.

#include "attention/score_softmax_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kSoftmaxThreads = 256;

/// grid.x: tokens, grid.y: heads.
HYBRID_KERNEL(kSoftmaxThreads) score_softmax_kernel(const ScoreSoftmaxArgs a) {
  constexpr uint32_t kStep = 2 * kSoftmaxThreads, kWarps = kSoftmaxThreads / 32;
  HYBRID_SHARED(warp_max_of, float[kWarps]);
  HYBRID_SHARED(warp_sums, float[kWarps]);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint64_t row = (static_cast<uint64_t>(blockIdx.y) * a.n_tokens + blockIdx.x) * a.stride;
  const float* scores = a.scores + row;
  const uint32_t n_visible = a.first_position + blockIdx.x + 1;
  const float log2_scale = a.kq_scale * 1.44269504f;

  float max = -HUGE_VALF;
  for (uint32_t i = threadIdx.x; i < n_visible; i += kSoftmaxThreads) {
    max = larger(max, scores[i] * log2_scale);
  }
  max = warp_max(max);
  if (lane == 0) warp_max_of[warp] = max;
  __syncthreads();
  for (uint32_t w = 0; w < kWarps; ++w) max = larger(max, warp_max_of[w]);

  float sum = 0;
  for (uint32_t i = threadIdx.x; i < n_visible; i += kSoftmaxThreads) {
    sum += exp2_fast(scores[i] * log2_scale - max);
  }
  sum = warp_sum(sum);
  if (lane == 0) warp_sums[warp] = sum;
  __syncthreads();
  sum = 0;
  for (uint32_t w = 0; w < kWarps; ++w) sum += warp_sums[w];
  const float factor = 1.0f / sum;  // position 0 is seen, the largest weight is 1: not 0

  const auto weight = [&](uint32_t i) {
    return i < n_visible ? exp2_fast(scores[i] * log2_scale - max) * factor : 0.0f;
  };
  for (uint32_t i = 2 * threadIdx.x; i < a.stride; i += kStep) {
    *reinterpret_cast<uint32_t*>(a.weights + row + i) = pack_bf16(weight(i), weight(i + 1));
  }
}

}  // namespace hybrid::cuda
