#pragma once
// Kernels of activation_blocks_cuda.h. Eight lanes share 32 columns, four each; the arithmetic is
// that of quantize_group-inl.h, step by step, so the bits are the same.

#include "tensor/activation_blocks_cuda.h"
#include "tensor/row_filter_cuda.cuh"

namespace hybrid::cuda {

inline constexpr int kQuantizeThreads = 64;  // one block of 256 columns

/// Adding 1.5 * 2^23 rounds to the nearest integer, halves to even, for |x| < 2^22.
HYBRID_DEVICE float round_to_integer(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

HYBRID_DEVICE uint32_t pack_bytes(const int32_t (&q)[4]) {
  return (static_cast<uint32_t>(q[0]) & 255) | (static_cast<uint32_t>(q[1]) & 255) << 8 |
         (static_cast<uint32_t>(q[2]) & 255) << 16 | static_cast<uint32_t>(q[3]) << 24;
}

/// Of the eight lanes of a group.
HYBRID_DEVICE uint32_t group_max(uint32_t x) {
  for (int step = 4; step > 0; step /= 2) {
    x = larger(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}
/// Of four lanes: 16 columns.
HYBRID_DEVICE int32_t half_sum(int32_t x) {
  x += __shfl_xor_sync(kAllLanes, x, 2);
  return x + __shfl_xor_sync(kAllLanes, x, 1);
}

/// The sums of a group, of which this lane knows those of its own 16 columns.
HYBRID_DEVICE void store_sums(ActivationBlock& block, uint32_t group, uint32_t lane_of_group,
                              float scale, int32_t sum16) {
  const int32_t other = __shfl_xor_sync(kAllLanes, sum16, 4);
  if (lane_of_group == 0) {
    block.scale[group] = scale;
    block.sum32[group] = scale * static_cast<float>(sum16 + other);
  }
  if (lane_of_group % 4 == 0) {
    block.sum16[2 * group + lane_of_group / 4] = scale * static_cast<float>(sum16);
  }
}

/// grid.x: rows, of which there may be more than 65535; grid.y: blocks of 256 columns.
template <bool kSiluMul>
HYBRID_KERNEL(kQuantizeThreads)
quantize_kernel(const float* x, uint64_t x_stride, const float* up, uint64_t up_stride,
                uint32_t n_cols, ActivationBlock* to, const RowFilter filter) {
  if (!has_row(filter, blockIdx.x)) return;
  const uint32_t group = threadIdx.x / 8, lane_of_group = threadIdx.x % 8;
  const uint32_t in_block = 4 * threadIdx.x, column = 256 * blockIdx.y + in_block;
  float v[4];
  uint32_t most = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    v[i] = 0;
    if (column + i < n_cols) {
      v[i] = x[blockIdx.x * x_stride + column + i];
      if constexpr (kSiluMul) v[i] = silu(v[i]) * up[blockIdx.x * up_stride + column + i];
    }
    most = larger(most, float_to_bits(v[i]) & 0x7fffffffu);
  }
  most = group_max(most);
  const bool finite = most < 0x7f800000u;
  float scale = (finite ? bits_to_float(most) : 0.0f) / 127.0f;
  // Below this the inverse would overflow: such a group is zero beside anything else.
  if (scale < 1e-37f) scale = 0;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  int32_t q[4], rest[4], sum = 0, rest_sum = 0;
  for (int i = 0; i < 4; ++i) {
    q[i] = rest[i] = 0;
    if (scale > 0) {
      q[i] = static_cast<int32_t>(round_to_integer(v[i] * inverse));
      const float left = v[i] - scale * static_cast<float>(q[i]);
      rest[i] = static_cast<int32_t>(round_to_integer(left * inverse * 256.0f));
      rest[i] = smaller(larger(rest[i], -127), 127);
    }
    sum += q[i];
    rest_sum += rest[i];
  }
  ActivationBlock& first = to[static_cast<uint64_t>(blockIdx.x) * 2 * gridDim.y + blockIdx.y];
  ActivationBlock& second = (&first)[gridDim.y];
  reinterpret_cast<uint32_t*>(first.q)[threadIdx.x] = pack_bytes(q);
  reinterpret_cast<uint32_t*>(second.q)[threadIdx.x] = pack_bytes(rest);
  const float nan = bits_to_float(0x7fc00000u);
  sum = half_sum(sum);
  rest_sum = half_sum(rest_sum);
  store_sums(first, group, lane_of_group, finite ? scale : nan, sum);
  store_sums(second, group, lane_of_group, finite ? scale * 0x1p-8f : nan, 256 * sum + rest_sum);
}

}  // namespace hybrid::cuda
