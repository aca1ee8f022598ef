#pragma once
// route_token() (router.h) on a device, for rows of logits. Arithmetic is in double there, too.

#include "experts/moe_shape.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

inline constexpr uint32_t kMaxCudaExperts = 512, kMaxCudaGroups = 32;

/// logits: rows of n_experts; bias: [n_experts] or null; ids, weights: [n_tokens][n_used].
/// n_experts and n_groups at most as above.
CudaStatus route_tokens_cuda(const MoeShape& shape, DeviceRows<const float> logits,
                             const float* bias, uint32_t n_tokens, int32_t* ids, float* weights,
                             CudaStream stream);

}  // namespace hybrid
