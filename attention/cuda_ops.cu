#include "attention/cuda_ops.h"

namespace hybrid {
namespace {

constexpr AttentionCudaOps kOps{
    .version = AttentionCudaOps::kVersion,
    .n_bytes = sizeof(AttentionCudaOps),
    .store_cache_rows = store_cache_rows_cuda,
    .load_cache_rows = load_cache_rows_cuda,
    .mla_absorbed = mla_absorbed_cuda,
    .mla_prefill = mla_prefill_cuda,
    .score_softmax = score_softmax_cuda,
};

}  // namespace
}  // namespace hybrid

extern "C" __attribute__((visibility("default"))) const hybrid::AttentionCudaOps*
hybrid_attention_cuda_ops() {
  return &hybrid::kOps;
}
