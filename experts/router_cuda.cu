#include "experts/router_cuda.h"

#include "experts/router_cuda.cuh"

namespace hybrid {

using namespace cuda;

CudaStatus route_tokens_cuda(const MoeShape& shape, DeviceRows<const float> logits,
                             const float* bias, uint32_t n_tokens, int32_t* ids, float* weights,
                             CudaStream stream) {
  if (shape.n_experts > kMaxCudaExperts || shape.n_groups > kMaxCudaGroups) return 1;
  RouterRule rule{};
  rule.n_experts = shape.n_experts;
  rule.n_used = shape.n_used;
  rule.n_groups = shape.n_groups;
  rule.n_groups_used = shape.n_groups_used;
  rule.is_sigmoid = shape.gating == Gating::sigmoid;
  rule.has_groups = shape.group_rule != GroupRule::none;
  rule.takes_max = shape.group_rule == GroupRule::max;
  rule.normalizes = shape.normalize_weights;
  rule.weights_scale = static_cast<double>(shape.weights_scale);
  return launch(router_kernel, Grid(n_tokens), Grid(kRouterThreads), 0, stream, rule, logits.data,
                logits.stride, bias, ids, weights);
}

}  // namespace hybrid
