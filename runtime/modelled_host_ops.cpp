#include "runtime/modelled_host_ops.h"

namespace hybrid {

void ModelledHostOps::begin(uint32_t slot, const MicroBatch& batch) {
  work_.begin(slot, batch);
  ops_.begin(slot, batch);
}

void ModelledHostOps::select(uint32_t slot) {
  work_.select(slot);
  ops_.select(slot);
}

void ModelledHostOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  clock_.work(OpWork::rows(ids.size() * w.n_cols()));
  ops_.embed(w, ids, to);
}

void ModelledHostOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight,
                           float* y) {
  clock_.work(OpWork::rows(2 * n_rows * weight.size()));
  ops_.norm(x, n_rows, weight, y);
}

void ModelledHostOps::add(const float* x, float* y) {
  clock_.work(work_.add());
  ops_.add(x, y);
}

void ModelledHostOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  ops_.gather(x, rows, to);
}

void ModelledHostOps::set_input(const float* x, uint32_t n_rows, uint64_t n_cols,
                                Precision precision) {
  work_.set_input(n_rows);
  ops_.set_input(x, n_rows, n_cols, precision);
}

void ModelledHostOps::product(const Weight& w, float* y) {
  clock_.work(work_.product(w));
  ops_.product(w, y);
}

void ModelledHostOps::rotate_queries(float* q) {
  clock_.work(work_.rotate_queries());
  ops_.rotate_queries(q);
}

void ModelledHostOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  clock_.work(work_.store_latents());
  ops_.store_latents(w, cache_layer, kv);
}

void ModelledHostOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q,
                             float* out) {
  clock_.work(work_.attend(w));
  ops_.attend(w, cache_layer, q, out);
}

void ModelledHostOps::gated_ffn(const FfnWeights& w, float* y) {
  clock_.work(work_.gated_ffn(w));
  ops_.gated_ffn(w, y);
}

void ModelledHostOps::route(const LayerWeights& w, uint32_t moe_layer, const float* logits,
                            int32_t* ids, float* weights) {
  clock_.work(work_.route());
  ops_.route(w, moe_layer, logits, ids, weights);
}

void ModelledHostOps::routed_experts(const RoutedExperts& experts, const int32_t* ids,
                                     const float* weights, float* y) {
  for (const ExpertPart& part : experts.parts) {
    const bool is_here =
        part.n > 0 && !is_among(experts.elsewhere, static_cast<int32_t>(part.first));
    if (is_here) clock_.work(work_.experts(part));
  }
  ops_.routed_experts(experts, ids, weights, y);
}

void ModelledHostOps::expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) {
  clock_.work(work_.experts(part));
  ops_.expert_rows(part, ids, rows);
}

}  // namespace hybrid
