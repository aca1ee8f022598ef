#pragma once
// The processors that a sequence's steps run on, each with its operations, its rows and its queue,
// and what goes between them.

#include <memory>
#include <span>
#include <vector>

#include "base/trace.h"
#include "numa/huge_buffer.h"
#include "runtime/activations.h"
#include "runtime/host_ops.h"
#include "runtime/lane_use.h"
#include "runtime/model_device.h"
#include "runtime/sequence_cache.h"
#include "runtime/sequence_plan.h"

namespace hybrid {

/// Tokens of a micro-batch that belong to one sequence: they follow what its cache holds.
struct BatchSegment {
  SequenceCache* cache = nullptr;
  uint32_t first_position = 0;
  uint32_t n_tokens = 0;
};

struct Lane {
  Activations act;  // of the selected micro-batch
  LayerOps* ops = nullptr;
  std::unique_ptr<LayerOps> owned_ops;

  // A device's alone; a lane of the CPU has none of them.
  Device* device = nullptr;
  std::unique_ptr<DeviceStream> stream;

  /// Of each micro-batch in flight.
  struct Slot {
    Activations act;
    std::vector<CacheSegment> segments;
    std::unique_ptr<DeviceEvent> sent;  // when what was last sent to the host is there
  };
  std::vector<Slot> slots;
};

class Lanes {
 public:
  static constexpr uint32_t kHost = 0;

  /// Takes the memory of micro-batches; Throws Error where there is
  /// none. All arguments outlive it.
  /// trace: null, or filled with what each lane does and what the host waits for.
  Lanes(const ModelConfig& config, const SequencePlan& plan, const ModelDevices& devices,
        Trace* trace = nullptr);
  ~Lanes();

  Lane& operator[](uint32_t processor) { return lanes_[processor]; }
  uint32_t size() const { return static_cast<uint32_t>(lanes_.size()); }
  HostOps& host() { return *host_; }
  uint64_t held_bytes() const;  // of the CPU, what has really been taken
  LaneUse use() const;          // since they are there

  /// Begins micro-batch `slot` on all lanes, and selects it; of `batch` all but the segments.
  void begin(uint32_t slot, const MicroBatch& batch, std::span<const BatchSegment> segments);
  uint32_t n_slots() const { return static_cast<uint32_t>(n_tokens_.size()); }
  /// Waits until devices are done with the selected micro-batch, so that its rows may be another's.
  void vacate(uint32_t slot);
  /// What follows is for that one.
  void select(uint32_t slot);

  /// Rows of the step, n_per_token values each, from one lane's buffer to another's. Where they go
  /// to the host, they are there after arrive().
  template <class T>
  void send(T* Activations::*buffer, uint64_t n_per_token, uint32_t from, uint32_t to) {
    if (from == to) return;
    send_bytes(reinterpret_cast<std::byte*>(lanes_[from].act.*buffer),
               reinterpret_cast<std::byte*>(lanes_[kHost].act.*buffer),
               reinterpret_cast<std::byte*>(lanes_[to].act.*buffer),
               n_tokens_[slot_] * n_per_token * sizeof(T), from, to);
  }
  /// Copies a device's first n_rows of slot_rows to the host's, from row `at` on, and returns where
  /// they will be after arrive().
  const float* fetch_slot_rows(uint32_t from, uint64_t n_rows, uint64_t n_cols, uint64_t at);
  /// Room for a layer's ExpertRows that keeps its memory.
  std::vector<ExpertRows>& fetched() { return fetched_; }
  /// What `from` has sent may be used by `to`.
  void arrive(uint32_t from, uint32_t to);

  /// Room of the host's that a device may write.
  float* pinned_output(uint64_t n_floats);
  /// Waits for all lanes. Throws Error where a device has failed.
  void finish();

 private:
  template <class Wait>
  void waited(const Lane& lane, const Wait& wait);
  /// Waits on the host for what `lane` has sent.
  void await(Lane& lane, DeviceEvent& event);
  void send_bytes(std::byte* source, std::byte* on_host, std::byte* to, uint64_t n_bytes,
                  uint32_t from, uint32_t to_lane);

  HugeBuffer host_memory_;            // of the CPU's rows, or, with devices,
  std::vector<DeviceMemory> memory_;  // pinned, and of each device
  std::unique_ptr<HostOps> host_;
  std::unique_ptr<LayerOps> traced_host_;
  std::vector<Lane> lanes_;  // given back before their memory
  Trace* trace_;
  uint32_t track_ = 0;  // of the CPU
  DeviceMemory pinned_output_;
  std::vector<uint64_t> n_tokens_;  // [slots]
  std::vector<ExpertRows> fetched_;
  LaneUse use_;  // what is counted here
  const HostClock* clock_ = nullptr;
  uint32_t slot_ = 0;
};

}  // namespace hybrid
