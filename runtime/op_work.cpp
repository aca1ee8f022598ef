#include "runtime/op_work.h"

#include <cmath>

#include "placement/attention_work.h"
#include "runtime/step_bytes.h"

namespace hybrid {
namespace {

/// Of one matrix, or of a stack.
uint64_t stored_bytes(const Weight& w) { return w.packed() ? packed_bytes(w) : w.rows.data.size(); }

/// A matrix with n_tokens rows.
DeviceWork product_work(const Weight& w, uint64_t n_tokens) {
  return {stored_bytes(w), n_tokens * w.n_cols() * w.n_rows()};
}

DeviceWork sum(std::initializer_list<DeviceWork> parts) {
  DeviceWork all;
  for (const DeviceWork& part : parts) {
    all.n_bytes += part.n_bytes;
    all.n_multiply_adds += part.n_multiply_adds;
  }
  return all;
}

}  // namespace

void OpWork::begin(uint32_t slot, const MicroBatch& batch) {
  select(slot);
  *now_ = {.n_tokens = batch.n_tokens, .attention = {}};
  for (const CacheSegment& s : batch.segments) {
    if (s.cache == nullptr) continue;
    const AttentionWork work{config_.mla, attention_.mla, attention_.key_type};
    const KvCache::Shape& shape = s.cache->shape();
    const uint64_t row = shape.n_bytes() / shape.n_layers / shape.n_ctx;
    now_->attention = sum({now_->attention,
                           {(s.first_position + s.n_tokens) * row,
                            static_cast<uint64_t>(work.flop(s.first_position, s.n_tokens) / 2)}});
  }
}

DeviceWork OpWork::product(const Weight& w) const { return product_work(w, n_input_rows_); }

DeviceWork OpWork::rotate_queries() const {
  return rows(uint64_t{2} * n_tokens() * config_.mla.n_heads * config_.mla.qk_rope);
}

DeviceWork OpWork::store_latents() const {
  return rows(uint64_t{2} * n_tokens() * config_.mla.cache_row());
}

DeviceWork OpWork::attend(const LayerWeights& w) const {
  const MlaUpProjection& up = w.kv_up;
  return sum({now_->attention, {up.kv_b.data.size() + up.k_b.data.size() + up.v_b.data.size(), 0}});
}

DeviceWork OpWork::gated_ffn(const FfnWeights& w) const {
  return sum({product_work(w.gate, n_tokens()), product_work(w.up, n_tokens()),
              product_work(w.down, n_tokens())});
}

DeviceWork OpWork::experts(const ExpertPart& part) const {
  const MoeShape& moe = config_.moe;
  const double share = expected_experts(moe, n_tokens()) / moe.n_experts;
  uint64_t n_bytes = 0, n_elements = 0;  // of all experts, of one
  for (const Weight* each : {&part.w.gate, &part.w.up, &part.w.gate_up, &part.w.down}) {
    if (each->empty()) continue;
    n_bytes += stored_bytes(*each);
    n_elements += each->n_cols() * each->n_rows();
  }
  return {static_cast<uint64_t>(std::llround(static_cast<double>(n_bytes) * share)),
          n_elements * n_tokens() * moe.n_used * part.n / moe.n_experts};
}

}  // namespace hybrid
