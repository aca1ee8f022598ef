#pragma once
// Kernels of row_ops_cuda.h. All of them move a few KB a token: launches cost more than they do.

#include "tensor/row_filter_cuda.cuh"

namespace hybrid::cuda {

inline constexpr int kRowThreads = 256;

/// A block a row.
HYBRID_KERNEL(kRowThreads)
rms_norm_kernel(const float* x, uint64_t x_stride, const float* weight, uint32_t n, float epsilon,
                float* y, uint64_t y_stride) {
  HYBRID_SHARED(warp_sums, float[kRowThreads / 32]);
  const float* from = x + blockIdx.x * x_stride;
  float* to = y + blockIdx.x * y_stride;
  float sum = 0;
  for (uint32_t i = threadIdx.x; i < n; i += kRowThreads) sum = fmaf(from[i], from[i], sum);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int w = 0; w < kRowThreads / 32; ++w) sum += warp_sums[w];
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(n) + epsilon);
  for (uint32_t i = threadIdx.x; i < n; i += kRowThreads) to[i] = from[i] * scale * weight[i];
}

/// A thread a pair.
HYBRID_KERNEL(kRowThreads)
rope_table_kernel(const double* frequencies, uint32_t n_pairs, const int32_t* positions,
                  uint32_t n_tokens, float* table) {
  const uint32_t i = blockIdx.x * kRowThreads + threadIdx.x;
  if (i >= n_pairs * n_tokens) return;
  const double angle = static_cast<double>(positions[i / n_pairs]) * frequencies[i % n_pairs];
  table[2 * i] = static_cast<float>(cos(angle));
  table[2 * i + 1] = static_cast<float>(sin(angle));
}

/// A thread a pair of a head; grid.x: tokens.
HYBRID_KERNEL(kRowThreads)
rotate_pairs_kernel(float* x, uint64_t x_stride, uint32_t n_heads, uint64_t head_stride,
                    const float* table, uint32_t n_dims) {
  const uint32_t i = blockIdx.y * kRowThreads + threadIdx.x, n_pairs = n_dims / 2;
  if (i >= n_pairs * n_heads) return;
  const uint32_t pair = i % n_pairs;
  const float* angle = table + static_cast<uint64_t>(blockIdx.x) * n_dims + 2 * pair;
  float* at = x + blockIdx.x * x_stride + i / n_pairs * head_stride + 2 * pair;
  const float a = at[0], b = at[1], c = angle[0], s = angle[1];
  at[0] = a * c - b * s;
  at[1] = a * s + b * c;
}

/// A thread an element; grid.x: rows. kBf16: to `rounded`, filled up with zeros to its stride.
template <bool kBf16>
HYBRID_KERNEL(kRowThreads)
silu_mul_kernel(float* gate, uint64_t gate_stride, const float* up, uint64_t up_stride, uint32_t n,
                bf16_t* rounded, uint64_t rounded_stride, const RowFilter filter) {
  if (!has_row(filter, blockIdx.x)) return;
  const uint32_t i = blockIdx.y * kRowThreads + threadIdx.x;
  float* g = gate + blockIdx.x * gate_stride + i;
  const float* u = up + blockIdx.x * up_stride + i;
  if constexpr (kBf16) {
    if (i < rounded_stride) {
      rounded[blockIdx.x * rounded_stride + i] = float_to_bf16(i < n ? silu(*g) * *u : 0.0f);
    }
  } else {
    if (i < n) *g = silu(*g) * *u;
  }
}

HYBRID_KERNEL(kRowThreads)
add_rows_kernel(const float* x, uint64_t x_stride, float* y, uint64_t y_stride, uint32_t n) {
  const uint32_t i = blockIdx.y * kRowThreads + threadIdx.x;
  if (i < n) y[blockIdx.x * y_stride + i] += x[blockIdx.x * x_stride + i];
}

HYBRID_KERNEL(kRowThreads)
to_bf16_kernel(const float* x, uint64_t x_stride, uint32_t n, bf16_t* y, uint64_t y_stride) {
  const uint32_t i = blockIdx.y * kRowThreads + threadIdx.x;
  if (i >= y_stride) return;
  y[blockIdx.x * y_stride + i] = float_to_bf16(i < n ? x[blockIdx.x * x_stride + i] : 0.0f);
}

}  // namespace hybrid::cuda
