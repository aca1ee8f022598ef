#pragma once
// Attention with made keys and values on a device: prefill, un-absorbed (mla_attention.h).
//
//   score_p = kq_scale * q_h . [ k_h,p | rope_p ]        p <= first_position + t
//   out_h   = sum_p softmax(score)_p * v_h,p
//
// One pass over the keys with a running softmax: no K*Q in memory, whatever the number of
// positions. Products are of bf16 on the matrix units, sums floats. Keys and values of some heads
// at a time are what a budget limits: make them with panel_gemm_cuda() from the rows of attn_kv_b
// of these heads and the latents of load_cache_rows_cuda().

#include "tensor/row_ops_cuda.h"

namespace hybrid {

inline constexpr uint32_t kNopeDim = 128, kKeyRopeDim = 64, kQueryDim = kNopeDim + kKeyRopeDim;
inline constexpr uint32_t kValueDim = 128;

struct MlaPrefillArgs {
  uint32_t n_heads = 0;         // of this call
  uint32_t first_position = 0;  // of query 0
  uint32_t n_tokens = 0;        // keys: first_position + n_tokens
  float kq_scale = 0;
  DeviceRows<const float> q;  // head h of token t at t * stride + h * 192: nope, then rotated rope
  // Head h of position p at p * stride + h * head_stride; 16-byte aligned. With the layout of
  // attn_kv_b values stand behind keys: head_stride 256, v.data = k.data + 128.
  DeviceRows<const bf16_t> k, v;
  uint64_t k_head_stride = 0, v_head_stride = 0;
  const bf16_t* rope = nullptr;  // [positions][64]
  DeviceRows<float> out;         // head h of token t at t * stride + h * 128
};
CudaStatus mla_prefill_cuda(const MlaPrefillArgs& args, CudaStream stream);

}  // namespace hybrid
