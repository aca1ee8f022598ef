#pragma once
// The kernel of mla_prefill_cuda.h. A block: 64 queries of a head, 16 a warp, whose rows, sums and
// softmax stay in its registers; 32 keys and values at a time in shared memory, two such tiles. The
// scores' fragment of an mma is the next one's operand as it is, so weights never leave registers.

#include "attention/mla_prefill_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kPrefillThreads = 128;
inline constexpr uint32_t kPrefillQueries = 64, kPrefillKeys = 32;

/// Rows 16 bytes longer than a multiple of 128: the rows of ldmatrix begin in different banks.
struct PrefillTile {
  bf16_t k[kPrefillKeys][kQueryDim + 8];
  bf16_t v[kPrefillKeys][kValueDim + 8];
};

HYBRID_DEVICE void fetch_keys(const MlaPrefillArgs& a, uint32_t head, uint32_t first, uint32_t n,
                              PrefillTile& tile) {
  constexpr uint32_t kNope = kNopeDim / 8, kRope = kKeyRopeDim / 8, kValue = kValueDim / 8;
  constexpr uint32_t kChunks = kNope + kRope + kValue;
  for (uint32_t i = threadIdx.x; i < kPrefillKeys * kChunks; i += kPrefillThreads) {
    const uint32_t p = i / kChunks, chunk = i % kChunks;
    const bool is_there = first + p < n;
    const uint64_t position = is_there ? first + p : 0;
    if (chunk < kNope) {
      copy_async_16(&tile.k[p][8 * chunk],
                    a.k.data + position * a.k.stride + head * a.k_head_stride + 8 * chunk,
                    is_there);
    } else if (chunk < kNope + kRope) {
      copy_async_16(&tile.k[p][8 * chunk], a.rope + position * kKeyRopeDim + 8 * (chunk - kNope),
                    is_there);
    } else {
      const uint32_t at = 8 * (chunk - kNope - kRope);
      copy_async_16(&tile.v[p][at], a.v.data + position * a.v.stride + head * a.v_head_stride + at,
                    is_there);
    }
  }
  commit_copies();
}

/// The larger, or the sum, over the four lanes that share a row of a fragment.
HYBRID_DEVICE float row_max(float x) {
  x = larger(x, __shfl_xor_sync(kAllLanes, x, 1));
  return larger(x, __shfl_xor_sync(kAllLanes, x, 2));
}
HYBRID_DEVICE float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

/// grid.x: 64 queries each, the last ones, which see most keys, first; grid.y: heads.
HYBRID_KERNEL(kPrefillThreads, 2) mla_prefill_kernel(const MlaPrefillArgs a) {
  HYBRID_SHARED(tiles, PrefillTile[2]);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  const uint32_t group = lane / 4, pair = lane % 4;
  const uint32_t first_query = (gridDim.x - 1 - blockIdx.x) * kPrefillQueries;
  const uint32_t n_keys = a.first_position + smaller(first_query + kPrefillQueries, a.n_tokens);
  fetch_keys(a, head, 0, n_keys, tiles[0]);

  // This lane's two queries: rows group and group + 8 of the warp's 16.
  uint32_t own[2], q[kQueryDim / 16][4];
  for (uint32_t r = 0; r < 2; ++r) own[r] = first_query + 16 * warp + group + 8 * r;
  HYBRID_UNROLL
  for (uint32_t d = 0; d < kQueryDim / 16; ++d) {
    HYBRID_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t token = own[i % 2], column = 16 * d + 8 * (i / 2) + 2 * pair;
      float2 two{0, 0};
      if (token < a.n_tokens) {
        two = *reinterpret_cast<const float2*>(a.q.data + token * a.q.stride + head * kQueryDim +
                                               column);
      }
      q[d][i] = pack_bf16(two.x, two.y);
    }
  }
  const float log2_scale = a.kq_scale * 1.44269504f;
  float sums[kValueDim / 8][4] = {};
  float max[2] = {-HUGE_VALF, -HUGE_VALF}, weight[2] = {0, 0};
  uint32_t at = 0;
  for (uint32_t first = 0; first < n_keys; first += kPrefillKeys, at ^= 1) {
    if (first + kPrefillKeys < n_keys) {
      fetch_keys(a, head, first + kPrefillKeys, n_keys, tiles[at ^ 1]);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
    const PrefillTile& tile = tiles[at];
    float scores[kPrefillKeys / 8][4] = {};
    HYBRID_UNROLL
    for (uint32_t j = 0; j < kPrefillKeys / 8; ++j) {
      HYBRID_UNROLL
      for (uint32_t d = 0; d < kQueryDim / 16; d += 2) {
        uint32_t both[4];
        ldmatrix(both, &tile.k[8 * j + lane % 8][16 * d + lane / 8 * 8]);
        const uint32_t k0[2] = {both[0], both[1]}, k1[2] = {both[2], both[3]};
        mma_bf16(scores[j], q[d], k0);
        mma_bf16(scores[j], q[d + 1], k1);
      }
    }
    float new_max[2] = {max[0], max[1]};
    for (uint32_t j = 0; j < kPrefillKeys / 8; ++j) {
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t key = first + 8 * j + 2 * pair + i % 2;
        const bool is_seen = key <= a.first_position + own[i / 2];
        scores[j][i] = is_seen ? scores[j][i] * log2_scale : -HUGE_VALF;
        new_max[i / 2] = larger(new_max[i / 2], scores[j][i]);
      }
    }
    float correction[2], added[2] = {0, 0};
    for (uint32_t r = 0; r < 2; ++r) {
      new_max[r] = row_max(new_max[r]);
      correction[r] = exp2_fast(max[r] - new_max[r]);  // key 0 is seen: new_max is finite
      max[r] = new_max[r];
    }
    uint32_t p[kPrefillKeys / 8][2];
    for (uint32_t j = 0; j < kPrefillKeys / 8; ++j) {
      for (uint32_t r = 0; r < 2; ++r) {
        p[j][r] = pack_bf16(exp2_fast(scores[j][2 * r] - max[r]),
                            exp2_fast(scores[j][2 * r + 1] - max[r]));
        // What is multiplied is what is summed.
        added[r] += bits_to_float(p[j][r] << 16) + bits_to_float(p[j][r] & 0xffff0000u);
      }
    }
    for (uint32_t r = 0; r < 2; ++r) weight[r] = fmaf(weight[r], correction[r], added[r]);
    HYBRID_UNROLL
    for (uint32_t j = 0; j < kValueDim / 8; j += 2) {
      for (uint32_t i = 0; i < 4; ++i) {
        sums[j][i] *= correction[i / 2];
        sums[j + 1][i] *= correction[i / 2];
      }
      HYBRID_UNROLL
      for (uint32_t half = 0; half < kPrefillKeys / 16; ++half) {
        const uint32_t w[4] = {p[2 * half][0], p[2 * half][1], p[2 * half + 1][0],
                               p[2 * half + 1][1]};
        uint32_t v[4];
        ldmatrix_transposed(v, &tile.v[16 * half + lane % 16][8 * j + lane / 16 * 8]);
        const uint32_t v0[2] = {v[0], v[1]}, v1[2] = {v[2], v[3]};
        mma_bf16(sums[j], w, v0);
        mma_bf16(sums[j + 1], w, v1);
      }
    }
    __syncthreads();  // the next copies overwrite this tile
  }
  for (uint32_t r = 0; r < 2; ++r) weight[r] = 1.0f / row_sum(weight[r]);
  HYBRID_UNROLL
  for (uint32_t j = 0; j < kValueDim / 8; ++j) {
    HYBRID_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t token = own[i / 2];
      if (token >= a.n_tokens) continue;
      a.out.data[token * a.out.stride + head * kValueDim + 8 * j + 2 * pair + i % 2] =
          sums[j][i] * weight[i / 2];
    }
  }
}

}  // namespace hybrid::cuda
