#pragma once
// A processor beside the CPU that has memory of its own and works through queues: a GPU, or a
// simulated one (simulated_device.h). What it computes is queued by the layers' own ops; this file
// is what they share: memory, copies, order.
//
// A queue (DeviceStream) does its work one piece after the other, beside the host and other queues.
// Order between queues is made by events. Calls that queue return at once; what they were given
// must stay until a wait has shown that it is done.
//
// A device that has failed stays so: queued work is dropped, events happen all the same so that
// nobody waits for ever, and every wait throws what went wrong first.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace hybrid {

/// How long the host waits for a device that does nothing.
inline constexpr std::chrono::milliseconds kDeviceTimeout{10000};

class Device;

/// Memory of a device, or of the host where a device copies from and to ("pinned"). Given back at
/// the end of its life, which must come before the device's and after the last queued use.
class DeviceMemory {
 public:
  enum class Where { device, host };

  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceMemory();

  /// Device memory is an address that only work on the device may follow. On 256 bytes.
  std::byte* data() const { return data_; }
  uint64_t n_bytes() const { return n_bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  friend class Device;
  DeviceMemory(Device& device, Where where, std::byte* data, uint64_t n_bytes)
      : device_(&device), where_(where), data_(data), n_bytes_(n_bytes) {}
  void swap(DeviceMemory& other) noexcept;

  Device* device_ = nullptr;
  Where where_ = Where::device;
  std::byte* data_ = nullptr;
  uint64_t n_bytes_ = 0;
};

/// A point in a queue's work. May be recorded again and again; a wait is for the last record before
/// it. One that was never recorded has happened.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  /// Waits on the host; throws Error where the device has failed, and where it does nothing for
  /// `limit`, as far as that can be seen: then it has failed, too.
  virtual void wait(std::chrono::milliseconds limit) = 0;
};

class DeviceStream {
 public:
  /// Waits for what is queued.
  virtual ~DeviceStream() = default;

  /// Host memory must be pinned memory of a device of this kind; both ranges whole inside one
  /// allocation.
  virtual void copy_to_device(std::byte* device, const std::byte* host, uint64_t n_bytes) = 0;
  virtual void copy_to_host(std::byte* host, const std::byte* device, uint64_t n_bytes) = 0;
  virtual void copy_on_device(std::byte* to, const std::byte* from, uint64_t n_bytes) = 0;

  /// The event happens when all that is queued so far is done.
  virtual void record(DeviceEvent& event) = 0;
  /// What is queued from here on begins after the event's last record. Of the same device.
  virtual void wait(const DeviceEvent& event) = 0;

  /// Waits on the host for all that is queued; throws as DeviceEvent::wait.
  virtual void synchronize(std::chrono::milliseconds limit) = 0;
};

/// Calls from one thread at a time.
class Device {
 public:
  virtual ~Device() = default;

  /// As rules have it ("CUDA0", "SIM0"), and for a person ("SIM0 (simulated)").
  virtual std::string name() const = 0;
  virtual std::string title() const = 0;
  virtual bool is_simulated() const = 0;

  uint64_t capacity_bytes() const { return capacity_bytes_; }
  uint64_t used_bytes() const { return used_bytes_; }      // of capacity_bytes()
  uint64_t pinned_bytes() const { return pinned_bytes_; }  // of the host

  /// Throws Error where less is free; `what` says in it what the memory is for.
  DeviceMemory allocate(uint64_t n_bytes, const std::string& what);
  DeviceMemory allocate_pinned(uint64_t n_bytes, const std::string& what);

  virtual std::unique_ptr<DeviceStream> make_stream() = 0;
  virtual std::unique_ptr<DeviceEvent> make_event() = 0;

 protected:
  explicit Device(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
  /// As allocate(), without memory: data() is null.
  DeviceMemory count(uint64_t n_bytes, const std::string& what);
  /// n_bytes > 0, and for the device's own memory no more than is free. Throws Error where there is
  /// none all the same; `what` as of allocate().
  virtual std::byte* take(DeviceMemory::Where where, uint64_t n_bytes, const std::string& what) = 0;
  virtual void give_back(DeviceMemory::Where where, std::byte* data) = 0;

 private:
  friend class DeviceMemory;
  void check_free(uint64_t n_bytes, const std::string& what) const;
  void release(const DeviceMemory& memory);

  uint64_t capacity_bytes_;
  uint64_t used_bytes_ = 0, pinned_bytes_ = 0;
};

}  // namespace hybrid
