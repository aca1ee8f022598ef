#pragma once
// The functions of this layer as the CUDA plugin has them; see tensor/cuda_ops.h.

#include <cstdint>

#include "experts/moe_ffn_cuda.h"
#include "experts/router_cuda.h"
#include "experts/routes_cuda.h"

namespace hybrid {

struct ExpertsCudaOps {
  static constexpr uint32_t kVersion = 4;
  static constexpr const char* kSymbol = "hybrid_experts_cuda_ops";

  uint32_t version;
  uint32_t n_bytes;  // of this struct

  decltype(&route_tokens_cuda) route_tokens;
  decltype(&sort_by_expert_cuda) sort_by_expert;
  decltype(&moe_ffn_cuda) moe_ffn;
  decltype(&combine_slots_cuda) combine_slots;
  decltype(&gather_slots_cuda) gather_slots;
};

}  // namespace hybrid
