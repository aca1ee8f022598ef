#include "tensor/simulated_device.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/units.h"

namespace hybrid {
namespace {

constexpr size_t kAlignment = 256;

using Allocations = std::map<const std::byte*, uint64_t>;  // their bytes

std::string title_of(uint32_t index) { return fmt::format("SIM{} (simulated)", index); }

/// Pinned memory is every simulated device's, as CUDA's portable one is every GPU's.
struct PinnedMemory {
  std::mutex mutex;
  Allocations allocations;
};

PinnedMemory& pinned_memory() {
  static PinnedMemory memory;
  return memory;
}

double time_of(uint64_t n, double per_second) {
  return per_second > 0 ? static_cast<double>(n) / per_second : 0;
}

/// Whether [data, data + n_bytes) lies in one of them.
bool lies_in(const Allocations& allocations, const std::byte* data, uint64_t n_bytes) {
  const auto next = allocations.upper_bound(data);
  if (next == allocations.begin()) return false;
  const auto& [begin, n_allocated] = *std::prev(next);
  const auto offset = static_cast<uint64_t>(data - begin);
  return offset <= n_allocated && n_bytes <= n_allocated - offset;
}

}  // namespace

/// What streams and events share. One lock for all: pieces of work are large.
struct SimulatedDevice::Impl {
  explicit Impl(SimulatedOptions o) : options(std::move(o)) {}

  const SimulatedOptions options;
  std::mutex mutex;
  std::condition_variable changed;  // work queued or done
  Allocations allocations;
  std::string error;    // of the first failure; empty: none
  uint64_t n_done = 0;  // pieces of work, copies, records and waits of all queues

  void fail_with(const std::string& message) {  // locked
    if (error.empty()) error = fmt::format("{} failed: {}", title_of(options.index), message);
    changed.notify_all();
  }

  void host_waits_until(double seconds) const {
    if (options.host_clock) options.host_clock->wait_until(seconds);
  }

  /// The lock and the memory of one kind.
  std::pair<std::mutex&, Allocations&> memory(DeviceMemory::Where where) {
    if (where == DeviceMemory::Where::device) return {mutex, allocations};
    return {pinned_memory().mutex, pinned_memory().allocations};
  }
  bool holds(DeviceMemory::Where where, const std::byte* data, uint64_t n_bytes) {
    const auto [lock, all] = memory(where);
    const std::lock_guard guard(lock);
    return lies_in(all, data, n_bytes);
  }

  /// Waits until done(), a failure, or the limit without any progress, which is one.
  template <class Done>
  void wait(std::chrono::milliseconds limit, const char* what, const Done& done) {
    std::unique_lock lock(mutex);
    uint64_t n_before = n_done;
    const auto ends = [&] { return done() || !error.empty(); };
    while (!changed.wait_for(lock, limit, ends) && n_done > n_before) n_before = n_done;
    if (!ends()) {
      fail_with(fmt::format("no answer for {} s while the host waited for {}",
                            std::chrono::duration<double>(limit).count(), what));
    }
    if (!error.empty()) throw Error(error);
  }
};

namespace {

using DeviceImpl = SimulatedDevice::Impl;

/// One record of an event; who waits for it keeps it, whatever is recorded later.
struct Record {
  bool is_done = false;
  double seconds = 0;  // on the clock of the queue that it was recorded in
};

class Event : public DeviceEvent {
 public:
  explicit Event(std::shared_ptr<DeviceImpl> device) : device_(std::move(device)) {}

  void wait(std::chrono::milliseconds limit) override {
    const std::shared_ptr<const Record> record = last;
    device_->wait(limit, "an event", [&] { return record == nullptr || record->is_done; });
    if (record != nullptr) device_->host_waits_until(record->seconds);
  }
  const DeviceImpl* device() const { return device_.get(); }

  std::shared_ptr<Record> last;  // null: never recorded

 private:
  const std::shared_ptr<DeviceImpl> device_;
};

class Stream : public SimulatedStream {
 public:
  explicit Stream(std::shared_ptr<DeviceImpl> device)
      : device_(std::move(device)), thread_([this] { run(); }) {}

  ~Stream() override {
    {
      const std::lock_guard lock(device_->mutex);
      ends_ = true;
      device_->changed.notify_all();
    }
    thread_.join();
  }

  void enqueue(const DeviceWork& work, std::function<void()> body) override {
    add({.body = std::move(body), .seconds = rates().launch_s + work.seconds(rates())});
  }

  void copy_to_device(std::byte* device, const std::byte* host, uint64_t n_bytes) override {
    check(DeviceMemory::Where::device, device, n_bytes);
    check(DeviceMemory::Where::host, host, n_bytes);
    add_copy(device, host, n_bytes, rates().link_bytes_per_s, rates().copy_s);
  }
  void copy_to_host(std::byte* host, const std::byte* device, uint64_t n_bytes) override {
    check(DeviceMemory::Where::device, device, n_bytes);
    check(DeviceMemory::Where::host, host, n_bytes);
    add_copy(host, device, n_bytes, rates().link_bytes_per_s, rates().copy_s);
  }
  void copy_on_device(std::byte* to, const std::byte* from, uint64_t n_bytes) override {
    check(DeviceMemory::Where::device, to, n_bytes);
    check(DeviceMemory::Where::device, from, n_bytes);
    add_copy(to, from, n_bytes, rates().memory_bytes_per_s / 2);
  }

  void record(DeviceEvent& event) override {
    auto* own = dynamic_cast<Event*>(&event);
    HYBRID_CHECK(own != nullptr && own->device() == device_.get());
    own->last = std::make_shared<Record>();
    add({.record = own->last});
  }

  void wait(const DeviceEvent& event) override {
    const auto* own = dynamic_cast<const Event*>(&event);
    HYBRID_CHECK(own != nullptr && own->device() == device_.get());
    if (own->last != nullptr) add({.awaited = own->last});
  }

  void synchronize(std::chrono::milliseconds limit) override {
    device_->wait(limit, "a queue", [&] { return items_.empty() && !works_; });
    device_->host_waits_until(modelled_seconds());
  }

  double modelled_seconds() const override {
    const std::lock_guard lock(device_->mutex);
    return seconds_;
  }
  double busy_seconds() const override {
    const std::lock_guard lock(device_->mutex);
    return busy_seconds_;
  }

 private:
  /// Work, or a record of an event, or a wait for one.
  struct Item {
    std::function<void()> body = {};
    double seconds = 0;
    double not_before = 0;  // when the host queued it
    std::shared_ptr<Record> record = {};
    std::shared_ptr<const Record> awaited = {};
  };

  const DeviceRates& rates() const { return device_->options.rates; }
  void check(DeviceMemory::Where where, const std::byte* data, uint64_t n_bytes) const {
    if (device_->holds(where, data, n_bytes)) return;
    const bool on_device = where == DeviceMemory::Where::device;
    fail("internal: a copy of {} bytes reaches beyond {} of {}", n_bytes,
         on_device ? "the memory" : "the pinned memory", title_of(device_->options.index));
  }

  void add(Item item) {
    const std::lock_guard lock(device_->mutex);
    if (device_->options.host_clock) item.not_before = device_->options.host_clock->seconds();
    items_.push_back(std::move(item));
    device_->changed.notify_all();
  }
  void add_copy(std::byte* to, const std::byte* from, uint64_t n_bytes, double rate,
                double more_seconds = 0) {
    if (n_bytes == 0) return;
    add({.body = [=] { std::memcpy(to, from, n_bytes); },
         .seconds = rates().launch_s + more_seconds + time_of(n_bytes, rate)});
  }

  // ---- the queue's thread ----

  void run() {
    std::unique_lock lock(device_->mutex);
    for (;;) {
      device_->changed.wait(lock, [&] { return ends_ || !items_.empty(); });
      if (items_.empty()) return;
      const Item item = std::move(items_.front());
      items_.pop_front();
      works_ = true;
      if (item.record != nullptr) {
        *item.record = {true, seconds_};
      } else if (item.awaited != nullptr) {
        wait_for(*item.awaited, lock);
      } else {
        work(item, lock);
      }
      works_ = false;
      ++device_->n_done;
      device_->changed.notify_all();
    }
  }

  void work(const Item& item, std::unique_lock<std::mutex>& lock) {
    if (!device_->error.empty()) return;
    lock.unlock();
    std::string error;
    try {
      if (device_->options.before_work) device_->options.before_work();
      item.body();
    } catch (const std::exception& e) {
      error = e.what();
    }
    lock.lock();
    if (!error.empty()) return device_->fail_with(error);
    seconds_ = std::max(seconds_, item.not_before) + item.seconds;
    busy_seconds_ += item.seconds;
  }

  void wait_for(const Record& record, std::unique_lock<std::mutex>& lock) {
    device_->changed.wait(lock, [&] { return record.is_done || !device_->error.empty(); });
    seconds_ = std::max(seconds_, record.seconds);
  }

  const std::shared_ptr<DeviceImpl> device_;
  std::deque<Item> items_;
  bool works_ = false, ends_ = false;
  double seconds_ = 0, busy_seconds_ = 0;
  std::thread thread_;
};

}  // namespace

double DeviceWork::seconds(const DeviceRates& rates) const {
  return std::max(time_of(n_bytes, rates.memory_bytes_per_s),
                  time_of(n_multiply_adds, rates.multiply_adds_per_s));
}

void HostClock::work(const DeviceWork& work) {
  seconds_ += work.seconds(rates_);
  busy_seconds_ += work.seconds(rates_);
}

SimulatedDevice::SimulatedDevice(SimulatedOptions options)
    : Device(options.capacity_bytes), impl_(std::make_shared<Impl>(std::move(options))) {}

SimulatedDevice::~SimulatedDevice() = default;

std::string SimulatedDevice::name() const { return fmt::format("SIM{}", impl_->options.index); }
std::string SimulatedDevice::title() const { return title_of(impl_->options.index); }

std::unique_ptr<SimulatedStream> SimulatedDevice::make_simulated_stream() {
  return std::make_unique<Stream>(impl_);
}
std::unique_ptr<DeviceStream> SimulatedDevice::make_stream() { return make_simulated_stream(); }
std::unique_ptr<DeviceEvent> SimulatedDevice::make_event() {
  return std::make_unique<Event>(impl_);
}

std::byte* SimulatedDevice::take(DeviceMemory::Where where, uint64_t n_bytes,
                                 const std::string& what) {
  void* taken = nullptr;
  if (posix_memalign(&taken, kAlignment, n_bytes) != 0) {
    fail("{}: this machine has no {} for {}", title(), format_bytes(n_bytes), what);
  }
  auto* data = static_cast<std::byte*>(taken);
  // What nobody has written is no number, as on a device that gives memory as it found it.
  std::memset(data, 0xff, n_bytes);
  const auto [lock, all] = impl_->memory(where);
  const std::lock_guard guard(lock);
  all[data] = n_bytes;
  return data;
}

void SimulatedDevice::give_back(DeviceMemory::Where where, std::byte* data) {
  {
    const auto [lock, all] = impl_->memory(where);
    const std::lock_guard guard(lock);
    all.erase(data);
  }
  std::free(data);
}

}  // namespace hybrid
