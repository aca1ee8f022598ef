#pragma once
// Attention on latents on a device: decode, absorbed (mla_attention.h), 512 + 64 elements a row.
//
//   score_p  = kq_scale * (q_latent_h . latent_p + q_rope_h . rope_p)    p < n_visible[t]
//   out_h    = sum_p softmax(score)_p * latent_p
//
// The positions of a token are split over blocks (each 16 heads), which leave a sum, a maximum and
// a weight; a second kernel joins these in the order of the splits. Products are of half floats on
// the matrix units, sums floats. The cache's rows are f16 or become it (q8_0: d * q is rounded to
// 11 bits); queries are scaled by a power of two before they are rounded to f16, so that none
// overflows; softmax weights are at most 1.

#include "attention/cache_row_cuda.h"

namespace hybrid {

inline constexpr uint32_t kLatentDim = 512, kRopeDim = 64, kLatentRow = kLatentDim + kRopeDim;
inline constexpr uint32_t kAbsorbedHeads = 16;  // of a block

struct MlaAbsorbedArgs {
  CacheRow row;                        // f16 or q8_0; n 512, n_exact 64
  const std::byte* cache = nullptr;    // rows of one layer, 16-byte aligned
  const int32_t* n_visible = nullptr;  // [n_tokens]: on the device, at least 1
  uint32_t n_tokens = 0, n_heads = 0;
  float kq_scale = 0;
  // Head h of token t: latents at q_latent.data + t * stride + h * 512, the rotated rest at
  // q_rope.data + t * stride + h * q_rope_head_stride.
  DeviceRows<const float> q_latent;
  DeviceRows<const float> q_rope;
  uint64_t q_rope_head_stride = 0;
  float* out = nullptr;  // [n_tokens][n_heads][512]
  uint32_t n_splits = 1;
  float* scratch = nullptr;  // mla_absorbed_scratch_bytes()

  uint64_t n_parts() const { return uint64_t{n_tokens} * n_heads * n_splits; }
};
inline uint64_t mla_absorbed_scratch_bytes(const MlaAbsorbedArgs& args) {
  return args.n_parts() * (kLatentDim + 2) * sizeof(float);
}
CudaStatus mla_absorbed_cuda(const MlaAbsorbedArgs& args, CudaStream stream);

/// Splits of at least 64 positions, so many that each of n_sms multiprocessors has at most one
/// block: a second would wait, for all of its shared memory, until the first is done.
inline uint32_t mla_absorbed_splits(uint32_t n_heads, uint32_t n_tokens, uint32_t n_positions,
                                    uint32_t n_sms) {
  const uint32_t n_groups = (n_heads + kAbsorbedHeads - 1) / kAbsorbedHeads * n_tokens;
  const uint32_t wanted = n_sms < n_groups ? 1 : n_sms / n_groups;
  const uint32_t most = n_positions < 128 ? 1 : n_positions / 64;
  return wanted < most ? wanted : most;
}

}  // namespace hybrid
