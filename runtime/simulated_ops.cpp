#include "runtime/simulated_ops.h"

#include <algorithm>
#include <cmath>

#include "placement/attention_work.h"
#include "runtime/step_bytes.h"
#include "runtime/traced_ops.h"

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

/// Rows of floats that are read or written.
DeviceWork row_work(uint64_t n_floats) { return {n_floats * sizeof(float), 0}; }

}  // namespace

SimulatedOps::SimulatedOps(SimulatedDevice& device, SimulatedStream& stream,
                           const ModelConfig& config, const SequencePlan& plan, Trace* trace)
    : config_(config),
      stream_(stream),
      scratch_(device.count_scratch(ops_bytes(plan))),
      workers_(1),
      host_(config, plan.attention, plan.host_sizes()),
      traced_(trace == nullptr
                  ? nullptr
                  : std::make_unique<TracedOps>(host_, *trace, trace->track(device.title()))),
      ops_(traced_ == nullptr ? static_cast<LayerOps&>(host_) : *traced_),
      slots_(plan.n_in_flight) {
  host_.use(workers_);
}

uint64_t SimulatedOps::ops_bytes(const SequencePlan& plan) {
  return plan.buffer_bytes - plan.row_bytes + plan.thread_bytes;
}

void SimulatedOps::begin(uint32_t slot, const MicroBatch& batch) {
  now_ = &slots_[slot];
  *now_ = {.n_tokens = batch.n_tokens, .attention = {}};
  // Queued, as all that follows: the segments of an earlier step may still be in use.
  std::vector<CacheSegment> segments(batch.segments.begin(), batch.segments.end());
  for (const CacheSegment& s : segments) {
    if (s.cache == nullptr) continue;
    const AttentionWork work{config_.mla, host_.attention().options().mla,
                             host_.attention().options().key_type};
    const KvCache::Shape& shape = s.cache->shape();
    const uint64_t row = shape.n_bytes() / shape.n_layers / shape.n_ctx;
    now_->attention = sum({now_->attention,
                           {(s.first_position + s.n_tokens) * row,
                            static_cast<uint64_t>(work.flop(s.first_position, s.n_tokens) / 2)}});
  }
  stream_.enqueue({}, [=, this, own = batch, segments = std::move(segments)]() mutable {
    own.segments = segments;
    ops_.begin(slot, own);
  });
}

void SimulatedOps::select(uint32_t slot) {
  now_ = &slots_[slot];
  stream_.enqueue({}, [this, slot] { ops_.select(slot); });
}

void SimulatedOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  stream_.enqueue(
      row_work(ids.size() * config_.n_embd),
      [this, &w, ids = std::vector(ids.begin(), ids.end()), to] { ops_.embed(w, ids, to); });
}

void SimulatedOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) {
  stream_.enqueue(row_work(2 * n_rows * weight.size()),
                  [=, this] { ops_.norm(x, n_rows, weight, y); });
}

void SimulatedOps::add(const float* x, float* y) {
  stream_.enqueue(row_work(uint64_t{3} * now_->n_tokens * config_.n_embd),
                  [=, this] { ops_.add(x, y); });
}

void SimulatedOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  stream_.enqueue(
      row_work(2 * rows.size() * config_.n_embd),
      [this, x, rows = std::vector(rows.begin(), rows.end()), to] { ops_.gather(x, rows, to); });
}

void SimulatedOps::set_input(const float* x, uint32_t n_rows, uint64_t n_cols,
                             Precision precision) {
  n_input_rows_ = n_rows;
  stream_.enqueue({}, [=, this] { ops_.set_input(x, n_rows, n_cols, precision); });
}

void SimulatedOps::product(const Weight& w, float* y) {
  stream_.enqueue(product_work(w, n_input_rows_), [this, &w, y] { ops_.product(w, y); });
}

void SimulatedOps::rotate_queries(float* q) {
  stream_.enqueue(
      row_work(uint64_t{2} * now_->n_tokens * config_.mla.n_heads * config_.mla.qk_rope),
      [this, q] { ops_.rotate_queries(q); });
}

void SimulatedOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  stream_.enqueue(row_work(uint64_t{2} * now_->n_tokens * config_.mla.cache_row()),
                  [=, this, &w] { ops_.store_latents(w, cache_layer, kv); });
}

void SimulatedOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) {
  const MlaUpProjection& up = w.kv_up;
  const uint64_t up_bytes = up.kv_b.data.size() + up.k_b.data.size() + up.v_b.data.size();
  stream_.enqueue(sum({now_->attention, {up_bytes, 0}}),
                  [=, this, &w] { ops_.attend(w, cache_layer, q, out); });
}

void SimulatedOps::gated_ffn(const FfnWeights& w, float* y) {
  stream_.enqueue(sum({product_work(w.gate, now_->n_tokens), product_work(w.up, now_->n_tokens),
                       product_work(w.down, now_->n_tokens)}),
                  [this, &w, y] { ops_.gated_ffn(w, y); });
}

void SimulatedOps::route(const LayerWeights& w, uint32_t moe_layer, const float* logits,
                         int32_t* ids, float* weights) {
  stream_.enqueue(row_work(uint64_t{now_->n_tokens} * config_.moe.n_experts),
                  [=, this, &w] { ops_.route(w, moe_layer, logits, ids, weights); });
}

void SimulatedOps::routed_experts(const ExpertWeights& w, const int32_t* ids, const float* weights,
                                  float* y) {
  const double share = expected_experts(config_.moe, now_->n_tokens) / config_.moe.n_experts;
  uint64_t n_bytes = 0, n_elements = 0;  // of all experts, of one
  for (const Weight* each : {&w.gate, &w.up, &w.gate_up, &w.down}) {
    if (each->empty()) continue;
    n_bytes += stored_bytes(*each);
    n_elements += each->n_cols() * each->n_rows();
  }
  const DeviceWork work{static_cast<uint64_t>(std::llround(static_cast<double>(n_bytes) * share)),
                        n_elements * now_->n_tokens * config_.moe.n_used};
  stream_.enqueue(work, [=, this, &w] { ops_.routed_experts(w, ids, weights, y); });
}

}  // namespace hybrid
