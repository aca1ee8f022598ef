#pragma once
// A device that is not there: each of its queues is a thread of this process, its memory is the
// host's with a capacity, and its ops are the CPU's. So what is computed is what the CPU computes,
// bit for bit, while order, capacity and hand-over are a device's: a copy that was forgotten, an
// event that was not waited for, a byte too many show without a GPU.
//
// Time is modelled, not passed: every piece of work lasts what DeviceRates say of its bytes and
// products, on a clock of its queue; events carry the clock's time from queue to queue. So two runs
// take the same modelled time to the last digit, however busy this machine is.

#include <algorithm>
#include <functional>
#include <memory>

#include "tensor/device.h"

namespace hybrid {

/// Zero: takes no time.
struct DeviceRates {
  double memory_bytes_per_s = 0;
  double multiply_adds_per_s = 0;
  double link_bytes_per_s = 0;  // copies, in each direction
  double launch_s = 0;          // of each piece of work and each copy
  double copy_s = 0;            // of each copy, beside that
};

/// What one piece of work reads and writes of the device's memory, and multiplies. It lasts as long
/// as the longer of the two.
struct DeviceWork {
  uint64_t n_bytes = 0;
  uint64_t n_multiply_adds = 0;

  double seconds(const DeviceRates& rates) const;
};

/// The clock of the thread that queues work, where the host's time is modelled, too: nothing that
/// it queues begins earlier, and it is set on by what it waits for.
class HostClock {
 public:
  explicit HostClock(const DeviceRates& rates) : rates_(rates) {}

  void work(const DeviceWork& work);
  void wait_until(double seconds) { seconds_ = std::max(seconds_, seconds); }
  double seconds() const { return seconds_; }
  double busy_seconds() const { return busy_seconds_; }

 private:
  const DeviceRates rates_;
  double seconds_ = 0, busy_seconds_ = 0;
};

struct SimulatedOptions {
  uint32_t index = 0;  // of SIM0, SIM1, ..
  uint64_t capacity_bytes = 0;
  DeviceRates rates = {};
  std::shared_ptr<HostClock> host_clock = {};  // of all devices the same; null: not modelled
  /// Called on the queue's thread before each piece of work: for tests that delay it.
  std::function<void()> before_work = {};
};

class SimulatedStream;

class SimulatedDevice : public Device {
 public:
  explicit SimulatedDevice(SimulatedOptions options);
  /// All memory, streams and events must be gone.
  ~SimulatedDevice() override;

  std::string name() const override;
  std::string title() const override;
  bool is_simulated() const override { return true; }
  std::unique_ptr<DeviceStream> make_stream() override;
  std::unique_ptr<DeviceEvent> make_event() override;

  /// Counts what the CPU's operations that run here take of the host for themselves.
  DeviceMemory count_scratch(uint64_t n_bytes) { return count(n_bytes, "scratch"); }

  /// As make_stream().
  std::unique_ptr<SimulatedStream> make_simulated_stream();

  struct Impl;

 private:
  std::byte* take(DeviceMemory::Where where, uint64_t n_bytes, const std::string& what) override;
  void give_back(DeviceMemory::Where where, std::byte* data) override;

  std::shared_ptr<Impl> impl_;  // streams and events keep it
};

class SimulatedStream : public DeviceStream {
 public:
  /// Queues `body`, which may follow the device's addresses. What it throws fails the device.
  virtual void enqueue(const DeviceWork& work, std::function<void()> body) = 0;

  /// Seconds on the queue's clock: when the work that is done so far ended, and how long of that
  /// the queue worked. Exact after synchronize().
  virtual double modelled_seconds() const = 0;
  virtual double busy_seconds() const = 0;
};

}  // namespace hybrid
