#include "runtime/traced_ops.h"

#include "tensor/gguf_file.h"

namespace hybrid {
namespace {

/// The tensor's name in the file.
std::string name_of(const Weight& w) {
  return w.source == nullptr ? std::string() : w.source->info.name;
}

}  // namespace

void TracedOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  const TraceZone zone(&trace_, track_, "embed");
  ops_.embed(w, ids, to);
}

void TracedOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) {
  const TraceZone zone(&trace_, track_, "norm");
  ops_.norm(x, n_rows, weight, y);
}

void TracedOps::add(const float* x, float* y) {
  const TraceZone zone(&trace_, track_, "add");
  ops_.add(x, y);
}

void TracedOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  const TraceZone zone(&trace_, track_, "gather");
  ops_.gather(x, rows, to);
}

void TracedOps::product(const Weight& w, float* y) {
  const TraceZone zone(&trace_, track_, "product", name_of(w));
  ops_.product(w, y);
}

void TracedOps::rotate_queries(float* q) {
  const TraceZone zone(&trace_, track_, "rotate_queries");
  ops_.rotate_queries(q);
}

void TracedOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  const TraceZone zone(&trace_, track_, "store_latents", name_of(w.kv_a));
  ops_.store_latents(w, cache_layer, kv);
}

void TracedOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) {
  const TraceZone zone(&trace_, track_, "attend", name_of(w.kv_a));
  ops_.attend(w, cache_layer, q, out);
}

void TracedOps::gated_ffn(const FfnWeights& w, float* y) {
  const TraceZone zone(&trace_, track_, "gated_ffn", name_of(w.gate));
  ops_.gated_ffn(w, y);
}

void TracedOps::route(const LayerWeights& w, uint32_t moe_layer, const float* logits, int32_t* ids,
                      float* weights) {
  const TraceZone zone(&trace_, track_, "route", name_of(w.router));
  ops_.route(w, moe_layer, logits, ids, weights);
}

void TracedOps::routed_experts(const RoutedExperts& experts, const int32_t* ids,
                               const float* weights, float* y) {
  const TraceZone zone(&trace_, track_, "routed_experts", name_of(experts.parts[0].w.down));
  ops_.routed_experts(experts, ids, weights, y);
}

void TracedOps::expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) {
  const TraceZone zone(&trace_, track_, "expert_rows", name_of(part.w.down));
  ops_.expert_rows(part, ids, rows);
}

}  // namespace hybrid
