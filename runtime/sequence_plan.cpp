#include "runtime/sequence_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"
#include "runtime/activations.h"
#include "tensor/matmul.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

/// Of products with rows that are decoded on the way: all at scalar, elsewhere those with F32.
uint64_t row_thread_bytes(const ModelWeights& weights) {
  uint64_t n_cols = 0;
  for_weights(weights, [&](const Weight& w) {
    if (simd_level() != SimdLevel::scalar && w.type() != DType::f32) return;
    n_cols = std::max(n_cols, w.n_cols());
  });
  return matmul_thread_bytes(n_cols);
}

}  // namespace

std::string SequencePlan::needs() const {
  return fmt::format("the cache of {} tokens needs {}, a micro-batch of {} tokens {}", n_ctx,
                     format_bytes(cache_bytes), n_ubatch, format_bytes(activation_bytes()));
}

SequencePlan plan_sequence(const ModelConfig& config, const ModelWeights& weights, uint32_t n_ctx,
                           const ExecutionOptions& options) {
  const uint32_t n_ubatch = std::min({options.n_ubatch, options.n_batch, n_ctx});
  SequencePlan plan{.n_ctx = n_ctx,
                    .n_ubatch = n_ubatch,
                    .cache = mla_cache_shape(config.mla, config.n_layers, n_ctx, options.attention),
                    .attention = MlaPlan(config.mla, options.attention, n_ctx, n_ubatch),
                    .fused_moe = options.fused_moe,
                    .n_in_flight = n_ubatch < n_ctx ? options.n_in_flight : 1,
                    .split_experts = options.split_experts};
  if (plan.n_in_flight > 1) {
    plan.n_in_pass =
        std::max(plan.n_in_flight, divide_up(std::min(options.n_batch, n_ctx), n_ubatch));
  }
  plan.cache_bytes = plan.cache.n_bytes();
  plan.row_bytes = plan.n_in_flight * Activations::n_bytes(config, n_ubatch, plan.split_experts);
  plan.buffer_bytes = plan.row_bytes + HostOps::n_bytes(config, plan.attention, plan.host_sizes());
  plan.thread_bytes = plan.attention.thread_bytes() + row_thread_bytes(weights);
  // The caller's thread is a member of both teams.
  const int n_more = options.n_threads_batch != options.n_threads ? options.n_threads_batch - 1 : 0;
  plan.n_threads = static_cast<uint32_t>(options.n_threads + n_more);
  return plan;
}

}  // namespace hybrid
