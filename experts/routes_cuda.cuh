#pragma once
// Kernels of routes_cuda.h. Without atomics, so that slots keep their order.

#include "experts/routes_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kRoutesThreads = 256;
inline constexpr int kRoutesWarps = kRoutesThreads / 32;
inline constexpr uint32_t kMaxMatrices = 1024;

HYBRID_DEVICE int32_t matrix_of(const int32_t* ids, const int32_t* local, uint32_t slot) {
  const int32_t id = ids[slot];
  return local != nullptr ? local[id] : id;
}

/// Block m writes what belongs to matrix m; the last one marks the slots that belong to none.
HYBRID_KERNEL(kRoutesThreads)
sort_by_expert_kernel(const int32_t* ids, const int32_t* local, uint32_t n_slots, uint32_t n_used,
                      uint32_t n_matrices, const DeviceRoutes routes) {
  HYBRID_SHARED(counts, uint32_t[kRoutesWarps]);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto matrix = static_cast<int32_t>(blockIdx.x);
  if (blockIdx.x == n_matrices) {
    for (uint32_t slot = threadIdx.x; slot < n_slots; slot += kRoutesThreads) {
      if (matrix_of(ids, local, slot) < 0) routes.places[slot] = -1;
    }
    return;
  }
  uint32_t n_before = 0;
  for (uint32_t slot = threadIdx.x; slot < n_slots; slot += kRoutesThreads) {
    const int32_t m = matrix_of(ids, local, slot);
    n_before += m >= 0 && m < matrix;
  }
  n_before = warp_sum(n_before);
  if (lane == 0) counts[warp] = n_before;
  __syncthreads();
  uint32_t place = 0;
  for (int w = 0; w < kRoutesWarps; ++w) place += counts[w];
  if (threadIdx.x == 0) routes.offsets[matrix] = place;
  for (uint32_t first = 0; first < n_slots; first += kRoutesThreads) {
    const uint32_t slot = first + threadIdx.x;
    const bool mine = slot < n_slots && matrix_of(ids, local, slot) == matrix;
    const uint32_t votes = __ballot_sync(kAllLanes, mine);
    __syncthreads();  // the counts were read
    if (lane == 0) counts[warp] = static_cast<uint32_t>(__popc(votes));
    __syncthreads();
    uint32_t at = place + static_cast<uint32_t>(__popc(votes & ((1u << lane) - 1)));
    for (uint32_t w = 0; w < kRoutesWarps; ++w) {
      if (w < warp) at += counts[w];
      place += counts[w];
    }
    if (mine) {
      routes.tokens[at] = slot / n_used;
      routes.places[slot] = static_cast<int32_t>(at);
    }
  }
  if (threadIdx.x == 0 && blockIdx.x + 1 == n_matrices) routes.offsets[n_matrices] = place;
}

/// One block: a thread a matrix (and a few more, to fill the last warp).
HYBRID_KERNEL(kMaxMatrices) expert_tiles_kernel(uint32_t n_matrices, const DeviceRoutes routes) {
  HYBRID_SHARED(counts, uint32_t[kMaxMatrices]);
  const uint32_t m = threadIdx.x;
  const uint32_t begin = m < n_matrices ? routes.offsets[m] : 0;
  const uint32_t n = m < n_matrices ? routes.offsets[m + 1] - begin : 0;
  counts[m] = (n + kTileOutputs - 1) / kTileOutputs;
  __syncthreads();
  uint32_t at = 0;
  for (uint32_t i = 0; i < m; ++i) at += counts[i];
  if (m + 1 == n_matrices) *routes.n_tiles = at + counts[m];
  for (uint32_t first = 0; first < n; first += kTileOutputs, ++at) {
    routes.tiles[at] = {static_cast<int32_t>(m), begin + first, smaller(kTileOutputs, n - first)};
  }
}

}  // namespace hybrid::cuda
