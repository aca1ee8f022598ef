#include "runtime/simulated_ops.h"

#include "base/error.h"
#include "runtime/traced_ops.h"

namespace hybrid {

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
      work_(config, plan) {
  host_.use(workers_);
}

uint64_t SimulatedOps::ops_bytes(const SequencePlan& plan) {
  return plan.buffer_bytes - plan.row_bytes + plan.thread_bytes;
}

void SimulatedOps::begin(uint32_t slot, const MicroBatch& batch) {
  work_.begin(slot, batch);
  // Queued, as all that follows: the segments of an earlier step may still be in use.
  std::vector<CacheSegment> segments(batch.segments.begin(), batch.segments.end());
  stream_.enqueue({}, [=, this, own = batch, segments = std::move(segments)]() mutable {
    own.segments = segments;
    ops_.begin(slot, own);
  });
}

void SimulatedOps::select(uint32_t slot) {
  work_.select(slot);
  stream_.enqueue({}, [this, slot] { ops_.select(slot); });
}

void SimulatedOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  stream_.enqueue(
      OpWork::rows(ids.size() * config_.n_embd),
      [this, &w, ids = std::vector(ids.begin(), ids.end()), to] { ops_.embed(w, ids, to); });
}

void SimulatedOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) {
  stream_.enqueue(OpWork::rows(2 * n_rows * weight.size()),
                  [=, this] { ops_.norm(x, n_rows, weight, y); });
}

void SimulatedOps::add(const float* x, float* y) {
  stream_.enqueue(work_.add(), [=, this] { ops_.add(x, y); });
}

void SimulatedOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  stream_.enqueue(
      OpWork::rows(2 * rows.size() * config_.n_embd),
      [this, x, rows = std::vector(rows.begin(), rows.end()), to] { ops_.gather(x, rows, to); });
}

void SimulatedOps::set_input(const float* x, uint32_t n_rows, uint64_t n_cols,
                             Precision precision) {
  work_.set_input(n_rows);
  stream_.enqueue({}, [=, this] { ops_.set_input(x, n_rows, n_cols, precision); });
}

void SimulatedOps::product(const Weight& w, float* y) {
  stream_.enqueue(work_.product(w), [this, &w, y] { ops_.product(w, y); });
}

void SimulatedOps::rotate_queries(float* q) {
  stream_.enqueue(work_.rotate_queries(), [this, q] { ops_.rotate_queries(q); });
}

void SimulatedOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  stream_.enqueue(work_.store_latents(), [=, this, &w] { ops_.store_latents(w, cache_layer, kv); });
}

void SimulatedOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) {
  stream_.enqueue(work_.attend(w), [=, this, &w] { ops_.attend(w, cache_layer, q, out); });
}

void SimulatedOps::gated_ffn(const FfnWeights& w, float* y) {
  stream_.enqueue(work_.gated_ffn(w), [this, &w, y] { ops_.gated_ffn(w, y); });
}

void SimulatedOps::route(const LayerWeights& w, uint32_t moe_layer, const float* logits,
                         int32_t* ids, float* weights) {
  stream_.enqueue(work_.route(), [=, this, &w] { ops_.route(w, moe_layer, logits, ids, weights); });
}

void SimulatedOps::routed_experts(const RoutedExperts& experts, const int32_t* ids,
                                  const float* weights, float* y) {
  HYBRID_CHECK(experts.parts.size() == 1 && experts.elsewhere.empty());
  stream_.enqueue(work_.experts(experts.parts[0]),
                  [=, this] { ops_.routed_experts(experts, ids, weights, y); });
}

void SimulatedOps::expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) {
  stream_.enqueue(work_.experts(part), [=, this, &part] { ops_.expert_rows(part, ids, rows); });
}

}  // namespace hybrid
