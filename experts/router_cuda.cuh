#pragma once
// The kernel of router_cuda.h. An expert's place in the order of scores is the number of those
// before it: 256 comparisons in each of 256 threads, no sort, and ties go to the lower id.

#include "experts/router_cuda.h"
#include "tensor/simt.cuh"

namespace hybrid::cuda {

inline constexpr int kRouterThreads = 256;

struct RouterRule {
  uint32_t n_experts, n_used, n_groups, n_groups_used;
  bool is_sigmoid, has_groups, takes_max, normalizes;
  double weights_scale;
};

HYBRID_DEVICE double masked_score() { return -HUGE_VAL; }

/// The sum of values (each thread's own) in a fixed order, in all threads.
HYBRID_DEVICE double block_sum(double value, double (&parts)[kRouterThreads / 32]) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kRouterThreads / 32; ++w) sum += parts[w];
  return sum;
}

HYBRID_DEVICE double group_score(const double* scores, uint32_t n, bool takes_max) {
  double best = masked_score(), second = masked_score();
  for (uint32_t i = 0; i < n; ++i) {
    const double s = scores[i];
    if (s > best) {
      second = best;
      best = s;
    } else {
      second = larger(second, s);
    }
  }
  return takes_max || n == 1 ? best : best + second;
}

/// An integer that is ordered as the score is, which is not NaN. GPUs for displays compare integers
/// many times faster than doubles.
HYBRID_DEVICE int64_t order_of(double score) {
  int64_t bits;
  memcpy(&bits, &score, sizeof(bits));
  if (bits >= 0) return bits;
  return bits == INT64_MIN ? 0 : bits ^ INT64_MAX;  // -0 is 0
}

/// How many of n scores come before score i.
HYBRID_DEVICE uint32_t rank_of(const int64_t* orders, uint32_t n, uint32_t i) {
  const int64_t mine = orders[i];
  uint32_t rank = 0;
  for (uint32_t j = 0; j < n; ++j) rank += orders[j] > mine || (orders[j] == mine && j < i);
  return rank;
}

/// A block a token.
HYBRID_KERNEL(kRouterThreads)
router_kernel(const RouterRule rule, const float* logits, uint64_t stride, const float* bias,
              int32_t* ids, float* weights) {
  HYBRID_SHARED(p, double[kMaxCudaExperts]);
  HYBRID_SHARED(scores, double[kMaxCudaExperts]);
  HYBRID_SHARED(orders, int64_t[kMaxCudaExperts]);
  HYBRID_SHARED(group_orders, int64_t[kMaxCudaGroups]);
  HYBRID_SHARED(group_ranks, uint32_t[kMaxCudaGroups]);
  HYBRID_SHARED(parts, double[kRouterThreads / 32]);
  HYBRID_SHARED(chosen, uint32_t[kMaxCudaExperts]);
  const float* row = logits + blockIdx.x * stride;
  const uint32_t n = rule.n_experts, thread = threadIdx.x;
  // exp(-infinity) is 0: a softmax needs the maximum first, a sigmoid does not.
  float max = -HUGE_VALF;
  if (!rule.is_sigmoid) {
    for (uint32_t e = 0; e < n; ++e) max = larger(max, row[e]);
  }
  double own = 0;
  for (uint32_t e = thread; e < n; e += kRouterThreads) {
    const auto logit = static_cast<double>(row[e]);
    p[e] = rule.is_sigmoid ? 1 / (1 + exp(-logit)) : exp(logit - static_cast<double>(max));
    own += p[e];
  }
  const double sum = rule.is_sigmoid ? 1 : block_sum(own, parts);
  for (uint32_t e = thread; e < n; e += kRouterThreads) {
    p[e] /= sum;
    const double s = p[e] + (bias != nullptr ? static_cast<double>(bias[e]) : 0);
    scores[e] = s == s ? s : masked_score();  // NaN, which no ordering survives: last
  }
  __syncthreads();
  if (rule.has_groups) {
    const uint32_t group_size = n / rule.n_groups;
    if (thread < rule.n_groups) {
      group_orders[thread] =
          order_of(group_score(scores + thread * group_size, group_size, rule.takes_max));
    }
    __syncthreads();
    if (thread < rule.n_groups) group_ranks[thread] = rank_of(group_orders, rule.n_groups, thread);
    __syncthreads();
  }
  for (uint32_t e = thread; e < n; e += kRouterThreads) {
    const bool is_masked =
        rule.has_groups && group_ranks[e / (n / rule.n_groups)] >= rule.n_groups_used;
    orders[e] = order_of(is_masked ? masked_score() : scores[e]);
  }
  __syncthreads();
  for (uint32_t e = thread; e < n; e += kRouterThreads) {
    const uint32_t rank = rank_of(orders, n, e);
    if (rank < rule.n_used) chosen[rank] = e;
  }
  __syncthreads();
  double total = 0;
  for (uint32_t k = 0; k < rule.n_used; ++k) total += p[chosen[k]];
  const double scale = rule.weights_scale / (rule.normalizes ? total : 1);
  for (uint32_t k = thread; k < rule.n_used; k += kRouterThreads) {
    ids[blockIdx.x * rule.n_used + k] = static_cast<int32_t>(chosen[k]);
    weights[blockIdx.x * rule.n_used + k] = static_cast<float>(p[chosen[k]] * scale);
  }
}

}  // namespace hybrid::cuda
