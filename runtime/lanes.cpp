#include "runtime/lanes.h"

#include <chrono>

#include "base/error.h"
#include "runtime/modelled_host_ops.h"
#include "runtime/traced_ops.h"

namespace hybrid {

Lanes::Lanes(const ModelConfig& config, const SequencePlan& plan, const ModelDevices& devices,
             Trace* trace)
    : lanes_(devices.size() + 1), trace_(trace), n_tokens_(plan.n_in_flight) {
  const uint64_t n_bytes = plan.row_bytes / plan.n_in_flight;
  const auto make_slots = [&](Lane& lane, std::byte* memory) {
    for (uint32_t i = 0; i < plan.n_in_flight; ++i, memory += n_bytes) {
      Lane::Slot slot{
          Activations::at(memory, config, plan.n_ubatch, plan.split_experts), {}, nullptr};
      if (lane.device != nullptr) slot.sent = lane.device->make_event();
      lane.slots.push_back(std::move(slot));
    }
  };
  for (uint32_t i = 1; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    lane.device = &devices[i - 1]->device();
    memory_.push_back(lane.device->allocate(plan.row_bytes, "a micro-batch"));
    make_slots(lane, memory_.back().data());
    lane.stream = lane.device->make_stream();
    lane.owned_ops = devices[i - 1]->make_ops(*lane.stream, config, plan, trace);
    lane.ops = lane.owned_ops.get();
  }
  if (devices.empty()) {
    host_memory_ = HugeBuffer(plan.row_bytes);
  } else {
    memory_.push_back(devices[0]->device().allocate_pinned(plan.row_bytes, "a micro-batch"));
  }
  Lane& host = lanes_[kHost];
  make_slots(host, devices.empty() ? host_memory_.data() : memory_.back().data());
  host_ = std::make_unique<HostOps>(config, plan.attention, plan.host_sizes());
  host.ops = host_.get();
  if (trace != nullptr) {
    track_ = trace->track("CPU");
    traced_host_ = std::make_unique<TracedOps>(*host.ops, *trace, track_);
    host.ops = traced_host_.get();
  }
  HostClock* clock = devices.empty() ? nullptr : devices[0]->host_clock();
  if (clock == nullptr) return;
  clock_ = clock;
  host.owned_ops = std::make_unique<ModelledHostOps>(*host.ops, *clock, config, plan);
  host.ops = host.owned_ops.get();
}

Lanes::~Lanes() = default;

uint64_t Lanes::held_bytes() const {
  const uint64_t rows = memory_.empty() ? host_memory_.n_bytes() : memory_.back().n_bytes();
  return rows + host_->held_bytes();
}

LaneUse Lanes::use() const {
  LaneUse use = use_;
  if (clock_ == nullptr) return use;
  use.modelled_seconds = clock_->seconds();
  use.modelled_host_seconds = clock_->busy_seconds();
  for (const Lane& lane : lanes_) {
    if (const auto* stream = dynamic_cast<const SimulatedStream*>(lane.stream.get())) {
      use.modelled_device_seconds.push_back(stream->busy_seconds());
    }
  }
  return use;
}

void Lanes::begin(uint32_t slot, const MicroBatch& batch, std::span<const BatchSegment> segments) {
  slot_ = slot;
  n_tokens_[slot] = batch.n_tokens;
  for (uint32_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    Lane::Slot& own = lane.slots[slot];
    lane.act = own.act;
    own.segments.clear();
    for (const BatchSegment& s : segments) {
      own.segments.push_back({s.cache->on(i), s.first_position, s.n_tokens});
    }
    MicroBatch of_lane = batch;
    of_lane.segments = own.segments;
    lane.ops->begin(slot, of_lane);
  }
}

void Lanes::vacate(uint32_t slot) {
  for (Lane& lane : lanes_) {
    if (lane.stream != nullptr) lane.stream->record(*lane.slots[slot].sent);
  }
  for (Lane& lane : lanes_) {
    if (lane.stream != nullptr) await(lane, *lane.slots[slot].sent);
  }
}

void Lanes::select(uint32_t slot) {
  if (slot == slot_) return;
  slot_ = slot;
  for (Lane& lane : lanes_) {
    lane.act = lane.slots[slot].act;
    lane.ops->select(slot);
  }
}

void Lanes::send_bytes(std::byte* source, std::byte* on_host, std::byte* to, uint64_t n_bytes,
                       uint32_t from, uint32_t to_lane) {
  Lane& a = lanes_[from];
  Lane& b = lanes_[to_lane];
  if (from != kHost) {
    a.stream->copy_to_host(on_host, source, n_bytes);
    use_.to_host_bytes += n_bytes;
    DeviceEvent& sent = *a.slots[slot_].sent;
    a.stream->record(sent);
    if (to_lane != kHost) await(a, sent);
  }
  if (to_lane == kHost) return;
  b.stream->copy_to_device(to, on_host, n_bytes);
  use_.to_device_bytes += n_bytes;
}

const float* Lanes::fetch_slot_rows(uint32_t from, uint64_t n_rows, uint64_t n_cols, uint64_t at) {
  Lane& lane = lanes_[from];
  float* const to = lanes_[kHost].act.slot_rows + at * n_cols;
  lane.stream->copy_to_host(reinterpret_cast<std::byte*>(to),
                            reinterpret_cast<const std::byte*>(lane.act.slot_rows),
                            n_rows * n_cols * sizeof(float));
  use_.to_host_bytes += n_rows * n_cols * sizeof(float);
  lane.stream->record(*lane.slots[slot_].sent);
  return to;
}

void Lanes::arrive(uint32_t from, uint32_t to) {
  if (from != to && to == kHost) await(lanes_[from], *lanes_[from].slots[slot_].sent);
}

template <class Wait>
void Lanes::waited(const Lane& lane, const Wait& wait) {
  const TraceZone zone(trace_, track_, "wait", trace_ == nullptr ? "" : lane.device->title());
  const auto start = std::chrono::steady_clock::now();
  wait();
  use_.wait_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Lanes::await(Lane& lane, DeviceEvent& event) {
  waited(lane, [&] { event.wait(kDeviceTimeout); });
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
    if (lane.stream != nullptr) {
      waited(lane, [&] { lane.stream->synchronize(kDeviceTimeout); });
    }
  }
}

}  // namespace hybrid
