#pragma once
// Kernels of cache_row_cuda.h, and reading of q8_0 rows for others.

#include "attention/cache_row_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kCacheThreads = 256;
inline constexpr uint32_t kCacheBlock = 32, kCacheBlockBytes = 34;

/// Two elements of a row of blocks, at an even index: (d * q, d * q).
HYBRID_DEVICE float2 cache_pair(const std::byte* row, uint32_t i) {
  const std::byte* block = row + i / kCacheBlock * kCacheBlockBytes;
  const float d = half_to_float(*reinterpret_cast<const f16_t*>(block));
  const uint32_t q = *reinterpret_cast<const uint16_t*>(block + 2 + i % kCacheBlock);
  return {d * static_cast<float>(static_cast<int8_t>(q)),
          d * static_cast<float>(static_cast<int8_t>(q >> 8))};
}

/// 32 elements, one a lane, into a block of q8_0, step by step as q8_0_row-inl.h does.
HYBRID_DEVICE void store_cache_block(float x, std::byte* block) {
  const uint32_t lane = threadIdx.x % 32;
  uint32_t most = float_to_bits(x) & 0x7fffffffu;
  for (int step = 16; step > 0; step /= 2) {
    most = larger(most, __shfl_xor_sync(kAllLanes, most, step));
  }
  const f16_t half = float_to_half(bits_to_float(most) / 127);
  const float d = half_to_float(half);
  const float factor = d > 0 && d <= 65504 ? 1 / d : 0;
  float y = x * factor;
  y = y > 127 ? 127 : y;
  y = y < -127 ? -127 : y;
  const uint32_t q = float_to_bits((factor == 0 ? 0 : y) + 12582912.0f) & 255;
  const uint32_t next = __shfl_xor_sync(kAllLanes, q, 1);
  if (lane == 0) *reinterpret_cast<f16_t*>(block) = half;
  if (lane % 2 == 0) {
    reinterpret_cast<uint16_t*>(block + 2)[lane / 2] = static_cast<uint16_t>(q | next << 8);
  }
}

/// A block a token; a warp takes 32 elements at a time.
template <bool kQ8>
HYBRID_KERNEL(kCacheThreads)
store_cache_rows_kernel(const float* rows, uint64_t stride, const int32_t* positions, uint32_t n,
                        uint32_t n_exact, uint64_t row_bytes, std::byte* cache) {
  const float* from = rows + blockIdx.x * stride;
  std::byte* to = cache + static_cast<uint64_t>(positions[blockIdx.x]) * row_bytes;
  uint32_t first = 0;  // from here on, half floats
  if constexpr (kQ8) {
    for (uint32_t b = threadIdx.x / 32; b < n / kCacheBlock; b += kCacheThreads / 32) {
      store_cache_block(from[b * kCacheBlock + threadIdx.x % 32], to + b * kCacheBlockBytes);
    }
    first = n;
    to += n / kCacheBlock * kCacheBlockBytes;
  }
  auto* halves = reinterpret_cast<f16_t*>(to);
  for (uint32_t i = threadIdx.x; i < n + n_exact - first; i += kCacheThreads) {
    halves[i] = float_to_half(from[first + i]);
  }
}

/// A block a row.
template <bool kQ8>
HYBRID_KERNEL(kCacheThreads)
load_cache_rows_kernel(const std::byte* cache, uint64_t row_bytes, uint32_t n, uint32_t n_exact,
                       bf16_t* latents, bf16_t* exact) {
  const std::byte* row = cache + blockIdx.x * row_bytes;
  const auto* halves =
      reinterpret_cast<const f16_t*>(row + (kQ8 ? n / kCacheBlock * kCacheBlockBytes : 2 * n));
  bf16_t* to = latents + static_cast<uint64_t>(blockIdx.x) * n;
  for (uint32_t i = 2 * threadIdx.x; i < n; i += 2 * kCacheThreads) {
    float2 pair;
    if constexpr (kQ8) {
      pair = cache_pair(row, i);
    } else {
      const auto* at = reinterpret_cast<const f16_t*>(row) + i;
      pair = {half_to_float(at[0]), half_to_float(at[1])};
    }
    *reinterpret_cast<uint32_t*>(to + i) = pack_bf16(pair.x, pair.y);
  }
  for (uint32_t i = threadIdx.x; i < n_exact; i += kCacheThreads) {
    exact[static_cast<uint64_t>(blockIdx.x) * n_exact + i] =
        float_to_bf16(half_to_float(halves[i]));
  }
}

}  // namespace hybrid::cuda
