#pragma once
// Copies to a device through pinned memory, in two halves: one is filled while the other is copied.

#include <array>
#include <cstring>
#include <memory>
#include <span>

#include "tensor/device.h"

namespace hybrid {

class Upload {
 public:
  /// Throws Error where there is no pinned memory. The device outlives it.
  explicit Upload(Device& device);

  /// Room for the next piece of at most max_piece() bytes. Throws Error where the device failed.
  std::span<std::byte> next();
  /// Queues the copy of the n_bytes that were put there.
  void send(std::byte* to, uint64_t n_bytes);
  static constexpr uint64_t max_piece() { return uint64_t{16} << 20; }

  /// Any number of bytes, which may go as soon as this returns.
  void copy(std::byte* to, std::span<const std::byte> from);

  /// Waits until all is there. Throws Error where the device failed.
  void finish() { stream_->synchronize(kDeviceTimeout); }

 private:
  DeviceMemory pinned_;
  std::unique_ptr<DeviceStream> stream_;
  std::array<std::unique_ptr<DeviceEvent>, 2> sent_;
  uint32_t half_ = 0;
};

}  // namespace hybrid
