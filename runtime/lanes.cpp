#include "runtime/lanes.h"

#include "base/error.h"

namespace hybrid {

Lanes::Lanes(const ModelConfig& config, const SequencePlan& plan, const ModelDevices& devices)
    : lanes_(devices.size() + 1) {
  const uint64_t n_bytes = Activations::n_bytes(config, plan.n_ubatch);
  const auto rows_at = [&](std::byte* memory) {
    return Activations::at(memory, config, plan.n_ubatch);
  };
  for (uint32_t i = 1; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    lane.device = &devices[i - 1]->device();
    memory_.push_back(lane.device->allocate(n_bytes, "a micro-batch"));
    lane.act = rows_at(memory_.back().data());
    lane.stream = lane.device->make_stream();
    lane.sent = lane.device->make_event();
    lane.ops = devices[i - 1]->make_ops(*lane.stream, config, plan);
  }
  if (devices.empty()) {
    host_memory_ = HugeBuffer(n_bytes);
  } else {
    memory_.push_back(devices[0]->device().allocate_pinned(n_bytes, "a micro-batch"));
  }
  Lane& host = lanes_[kHost];
  host.act = rows_at(devices.empty() ? host_memory_.data() : memory_.back().data());
  auto ops = std::make_unique<HostOps>(config, plan.n_ubatch, plan.attention, plan.fused_moe);
  host_ = ops.get();
  host.ops = std::move(ops);
}

Lanes::~Lanes() = default;

uint64_t Lanes::held_bytes() const {
  const uint64_t rows = memory_.empty() ? host_memory_.n_bytes() : memory_.back().n_bytes();
  return rows + host_->held_bytes();
}

void Lanes::begin(const MicroBatch& batch, std::span<const BatchSegment> segments) {
  n_tokens_ = batch.n_tokens;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    lane.segments.clear();
    for (const BatchSegment& s : segments) {
      lane.segments.push_back({s.cache->on(i), s.first_position, s.n_tokens});
    }
    MicroBatch own = batch;
    own.segments = lane.segments;
    lane.ops->begin(own);
  }
}

void Lanes::send_bytes(std::byte* source, std::byte* on_host, std::byte* to, uint64_t n_bytes,
                       uint32_t from, uint32_t to_lane) {
  Lane& a = lanes_[from];
  Lane& b = lanes_[to_lane];
  if (from != kHost) {
    a.stream->copy_to_host(on_host, source, n_bytes);
    a.stream->record(*a.sent);
    if (to_lane != kHost) a.sent->wait(kDeviceTimeout);
  }
  if (to_lane != kHost) b.stream->copy_to_device(to, on_host, n_bytes);
}

void Lanes::arrive(uint32_t from, uint32_t to) {
  if (from != to && to == kHost) lanes_[from].sent->wait(kDeviceTimeout);
}

float* Lanes::pinned_output(uint64_t n_floats) {
  if (pinned_output_.n_bytes() < n_floats * sizeof(float)) {
    pinned_output_ = {};
    pinned_output_ =
        lanes_[1].device->allocate_pinned(n_floats * sizeof(float), "the logits of a micro-batch");
  }
  return pinned_output_.as<float>();
}

void Lanes::finish() {
  for (Lane& lane : lanes_) {
    if (lane.stream != nullptr) lane.stream->synchronize(kDeviceTimeout);
  }
}

}  // namespace hybrid
