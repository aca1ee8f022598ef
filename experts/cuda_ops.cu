#include "experts/cuda_ops.h"

namespace hybrid {
namespace {

constexpr ExpertsCudaOps kOps{
    .version = ExpertsCudaOps::kVersion,
    .n_bytes = sizeof(ExpertsCudaOps),
    .route_tokens = route_tokens_cuda,
    .sort_by_expert = sort_by_expert_cuda,
    .moe_ffn = moe_ffn_cuda,
    .combine_slots = combine_slots_cuda,
    .gather_slots = gather_slots_cuda,
};

}  // namespace
}  // namespace hybrid

extern "C" __attribute__((visibility("default"))) const hybrid::ExpertsCudaOps*
hybrid_experts_cuda_ops() {
  return &hybrid::kOps;
}
