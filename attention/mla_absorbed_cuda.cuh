#pragma once
// Kernels of mla_absorbed_cuda.h. A block: 16 heads of a token, 4 warps, 32 positions at a time.
//
//   scores   a warp: 16 heads x 8 positions, 36 mma along the row
//   softmax  8 threads a head, 4 positions each; maximum and weight stay in their registers
//   sums     a warp: 16 heads x 128 of the 512 columns, 16 x 2 mma
//
// f16 rows are copied to shared memory asynchronously, the next 32 while these are multiplied. Of
// q8_0 rows the bytes are; they are turned into halves in shared memory, and the next ones' copies
// begin when that is done. Shared memory: 97,216 bytes and 81,344; what sm_86, 89 and 120 have is
// 101,376.
//
// By arithmetic, not measurement: with 128 heads 242 FLOP for a byte of f16 cache, more than an RTX
// 4090's 164 or an H200's 165, so the matrix units and shared memory are the limit there (16 FLOP
// for each byte of shared memory that goes into fragments). With 16 heads it is 30: memory.

#include "attention/cache_row_cuda.cuh"
#include "attention/mla_absorbed_cuda.h"

namespace hybrid::cuda {

inline constexpr int kAbsorbedThreads = 128;
inline constexpr uint32_t kAbsorbedPositions = 32;
inline constexpr uint32_t kF16RowBytes = 2 * kLatentRow;
inline constexpr uint32_t kQ8RowBytes = kLatentDim / kCacheBlock * kCacheBlockBytes + 2 * kRopeDim;
static_assert(kQ8RowBytes == 672 && kQ8RowBytes % 16 == 0);

/// Rows in shared memory are 16 bytes longer than a multiple of 128: the rows of ldmatrix then
/// begin in different banks.
template <bool kQ8>
struct AbsorbedShared {
  static constexpr int kRow = kLatentRow + 8;
  static constexpr int kTiles = kQ8 ? 1 : 2;
  f16_t q[kAbsorbedHeads][kRow];
  f16_t k[kTiles][kAbsorbedPositions][kRow];
  float scores[kAbsorbedHeads][kAbsorbedPositions + 4];
  f16_t weights[kAbsorbedHeads][kAbsorbedPositions + 8];
  float correction[kAbsorbedHeads], q_scale[kAbsorbedHeads];
  alignas(16) std::byte raw[kQ8 ? kAbsorbedPositions : 1][kQ8 ? kQ8RowBytes : 16];
};
static_assert(sizeof(AbsorbedShared<false>) <= 97344 && sizeof(AbsorbedShared<true>) <= 81408);

/// What a split leaves: [n_tokens][n_heads][n_splits] each.
struct AbsorbedParts {
  float* sums;  // x 512
  float* max;   // of the scores, in units of log2
  float* weight;
};

struct MlaAbsorbed {
  const std::byte* cache;
  const int32_t* n_visible;
  uint32_t n_heads;
  float log2_scale;  // kq_scale * log2(e)
  const float* q_latent;
  uint64_t q_latent_stride;
  const float* q_rope;
  uint64_t q_rope_stride, q_rope_head_stride;
  AbsorbedParts parts;
};

/// Queries as halves: each head's times the power of two that brings its largest element to 2^10.
template <class Shared>
HYBRID_DEVICE void load_queries(const MlaAbsorbed& a, uint32_t first_head, Shared& s) {
  const uint32_t head = threadIdx.x / 8, part = threadIdx.x % 8;
  const bool is_there = first_head + head < a.n_heads;
  const float* latent =
      a.q_latent + blockIdx.z * a.q_latent_stride + (first_head + head) * uint64_t{kLatentDim};
  const float* rope =
      a.q_rope + blockIdx.z * a.q_rope_stride + (first_head + head) * a.q_rope_head_stride;
  const auto element = [&](uint32_t i) {
    if (!is_there) return 0.0f;
    return i < kLatentDim ? latent[i] : rope[i - kLatentDim];
  };
  uint32_t most = 0;
  for (uint32_t i = part; i < kLatentRow; i += 8) {
    most = larger(most, float_to_bits(element(i)) & 0x7fffffffu);
  }
  for (int step = 4; step > 0; step /= 2) {
    most = larger(most, __shfl_xor_sync(kAllLanes, most, step));
  }
  // 2^(10 - exponent), within what floats hold.
  const uint32_t exponent = larger(most >> 23, 11u);
  const float factor = bits_to_float((264 - exponent) << 23);
  for (uint32_t i = part; i < kLatentRow; i += 8) s.q[head][i] = float_to_half(element(i) * factor);
  if (part == 0) s.q_scale[head] = a.log2_scale / factor;
}

/// Starts the copies of rows [first, first + 32), zeros from `end` on.
template <uint32_t kRowBytes>
HYBRID_DEVICE void fetch_rows(const std::byte* cache, uint32_t first, uint32_t end, void* to,
                              uint32_t to_stride) {
  constexpr uint32_t kChunks = kRowBytes / 16;
  for (uint32_t i = threadIdx.x; i < kAbsorbedPositions * kChunks; i += kAbsorbedThreads) {
    const uint32_t p = i / kChunks, at = i % kChunks * 16;
    const bool is_there = first + p < end;
    copy_async_16(static_cast<std::byte*>(to) + p * to_stride + at,
                  cache + (is_there ? static_cast<uint64_t>(first + p) * kRowBytes + at : 0),
                  is_there);
  }
  commit_copies();
}

/// Rows of q8_0 as halves.
HYBRID_DEVICE void unpack_rows(AbsorbedShared<true>& s) {
  constexpr uint32_t kPairs = kLatentRow / 2;
  for (uint32_t i = threadIdx.x; i < kAbsorbedPositions * kPairs; i += kAbsorbedThreads) {
    const uint32_t p = i / kPairs, at = i % kPairs * 2;
    const std::byte* row = s.raw[p];
    uint32_t pair;
    if (at < kLatentDim) {
      const float2 values = cache_pair(row, at);
      pair = pack_half(values.x, values.y);
    } else {
      pair = *reinterpret_cast<const uint32_t*>(row + kQ8RowBytes - 2 * (kLatentRow - at));
    }
    *reinterpret_cast<uint32_t*>(&s.k[0][p][at]) = pair;
  }
}

/// grid.x: splits, grid.y: groups of 16 heads, grid.z: tokens.
template <bool kQ8>
HYBRID_KERNEL(kAbsorbedThreads)
mla_absorbed_kernel(const MlaAbsorbed a) {
  using Shared = AbsorbedShared<kQ8>;
  HYBRID_DYNAMIC_SHARED(raw_shared);
  Shared& s = *reinterpret_cast<Shared*>(raw_shared);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t group = lane / 4, pair = lane % 4;
  const uint32_t first_head = blockIdx.y * kAbsorbedHeads;
  const auto n = static_cast<uint32_t>(a.n_visible[blockIdx.z]);
  const uint32_t of_split = (n + gridDim.x - 1) / gridDim.x;
  const uint32_t chunk =
      (of_split + kAbsorbedPositions - 1) / kAbsorbedPositions * kAbsorbedPositions;
  const uint32_t begin = blockIdx.x * chunk, end = smaller(n, begin + chunk);

  load_queries(a, first_head, s);
  float sums[16][4] = {};
  // Of head threadIdx.x / 8, the same in its eight threads.
  float max = -HUGE_VALF, weight = 0;
  const auto fetch = [&](uint32_t first, uint32_t tile) {
    if constexpr (kQ8) {
      fetch_rows<kQ8RowBytes>(a.cache, first, end, s.raw, kQ8RowBytes);
    } else {
      fetch_rows<kF16RowBytes>(a.cache, first, end, s.k[tile], 2 * Shared::kRow);
    }
  };
  if (begin < end) fetch(begin, 0);
  uint32_t tile = 0;
  for (uint32_t first = begin; first < end; first += kAbsorbedPositions) {
    const bool has_next = first + kAbsorbedPositions < end;
    if constexpr (kQ8) {
      wait_copies<0>();
      __syncthreads();
      unpack_rows(s);
      __syncthreads();
      if (has_next) fetch(first + kAbsorbedPositions, 0);
    } else {
      if (has_next) {
        fetch(first + kAbsorbedPositions, tile ^ 1);
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncthreads();
    }
    const auto& k = s.k[kQ8 ? 0 : tile];
    tile ^= 1;

    float scores[4] = {};
    HYBRID_UNROLL_BY(3)
    for (uint32_t d = 0; d < kLatentRow; d += 32) {
      uint32_t q0[4], q1[4], both[4];
      ldmatrix(q0, &s.q[lane % 16][d + lane / 16 * 8]);
      ldmatrix(q1, &s.q[lane % 16][d + 16 + lane / 16 * 8]);
      ldmatrix(both, &k[8 * warp + lane % 8][d + lane / 8 * 8]);
      const uint32_t k0[2] = {both[0], both[1]}, k1[2] = {both[2], both[3]};
      mma_half(scores, q0, k0);
      mma_half(scores, q1, k1);
    }
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t head = group + i / 2 * 8;
      s.scores[head][8 * warp + 2 * pair + i % 2] = scores[i] * s.q_scale[head];
    }
    __syncthreads();

    const uint32_t head = threadIdx.x / 8, part = threadIdx.x % 8;
    float own[4], new_max = max, added = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t p = part + 8 * i;
      own[i] = first + p < end ? s.scores[head][p] : -HUGE_VALF;
      new_max = larger(new_max, own[i]);
    }
    for (int step = 4; step > 0; step /= 2) {
      new_max = larger(new_max, __shfl_xor_sync(kAllLanes, new_max, step));
    }
    for (uint32_t i = 0; i < 4; ++i) {
      const f16_t p = float_to_half(exp2_fast(own[i] - new_max));
      s.weights[head][part + 8 * i] = p;
      added += half_to_float(p);
    }
    for (int step = 4; step > 0; step /= 2) added += __shfl_xor_sync(kAllLanes, added, step);
    const float correction = exp2_fast(max - new_max);
    weight = fmaf(weight, correction, added);
    max = new_max;
    if (part == 0) s.correction[head] = correction;
    __syncthreads();

    const float low = s.correction[group], high = s.correction[group + 8];
    uint32_t p[2][4];
    ldmatrix(p[0], &s.weights[lane % 16][lane / 16 * 8]);
    ldmatrix(p[1], &s.weights[lane % 16][16 + lane / 16 * 8]);
    HYBRID_UNROLL
    for (uint32_t j = 0; j < 16; j += 2) {
      for (uint32_t i = 0; i < 2; ++i) {
        sums[j + i][0] *= low;
        sums[j + i][1] *= low;
        sums[j + i][2] *= high;
        sums[j + i][3] *= high;
      }
      for (uint32_t half = 0; half < 2; ++half) {
        uint32_t v[4];
        ldmatrix_transposed(v, &k[16 * half + lane % 16][128 * warp + 8 * j + lane / 16 * 8]);
        const uint32_t v0[2] = {v[0], v[1]}, v1[2] = {v[2], v[3]};
        mma_half(sums[j], p[half], v0);
        mma_half(sums[j + 1], p[half], v1);
      }
    }
    __syncthreads();  // the next copies and scores overwrite these
  }

  const uint64_t n_splits = gridDim.x;
  const auto part_of = [&](uint32_t head) {
    return (static_cast<uint64_t>(blockIdx.z) * a.n_heads + head) * n_splits + blockIdx.x;
  };
  if (threadIdx.x % 8 == 0 && first_head + threadIdx.x / 8 < a.n_heads) {
    const uint64_t at = part_of(first_head + threadIdx.x / 8);
    a.parts.max[at] = max;
    a.parts.weight[at] = weight;
  }
  HYBRID_UNROLL
  for (uint32_t j = 0; j < 16; ++j) {
    HYBRID_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t head = first_head + group + i / 2 * 8;
      if (head >= a.n_heads) continue;
      a.parts.sums[part_of(head) * kLatentDim + 128 * warp + 8 * j + 2 * pair + i % 2] = sums[j][i];
    }
  }
}

/// A block a head of a token: joins the splits in their order.
HYBRID_KERNEL(kAbsorbedThreads)
mla_join_kernel(const AbsorbedParts parts, uint32_t n_splits, float* out) {
  const uint64_t first = static_cast<uint64_t>(blockIdx.x) * n_splits;
  float max = -HUGE_VALF;
  for (uint32_t i = 0; i < n_splits; ++i) max = larger(max, parts.max[first + i]);
  float weight = 0;
  for (uint32_t i = 0; i < n_splits; ++i) {
    weight = fmaf(parts.weight[first + i], exp2_fast(parts.max[first + i] - max), weight);
  }
  const float inverse = 1.0f / weight;
  for (uint32_t c = threadIdx.x; c < kLatentDim; c += kAbsorbedThreads) {
    float sum = 0;
    for (uint32_t i = 0; i < n_splits; ++i) {
      const float factor = exp2_fast(parts.max[first + i] - max);
      sum = fmaf(parts.sums[(first + i) * kLatentDim + c], factor, sum);
    }
    out[static_cast<uint64_t>(blockIdx.x) * kLatentDim + c] = sum * inverse;
  }
}

}  // namespace hybrid::cuda
