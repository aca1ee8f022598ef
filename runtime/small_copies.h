#pragma once
// Small arrays of a step on their way to a device: in pinned memory until they are there.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/device.h"

namespace hybrid {

class SmallCopies {
 public:
  /// Both outlive it. max_numbers: of a copy.
  SmallCopies(Device& device, DeviceStream& stream, uint64_t max_numbers);

  /// Queues the copy of numbers, which may go as soon as this returns. Throws Error where the
  /// device failed.
  void copy(std::span<const int32_t> numbers, int32_t* to);

 private:
  /// Copies that may be under way: of a few steps.
  static constexpr uint32_t kSlots = 8;

  DeviceStream& stream_;
  uint64_t max_numbers_;
  DeviceMemory pinned_;
  std::array<std::unique_ptr<DeviceEvent>, kSlots> sent_;
  uint32_t next_ = 0;
};

}  // namespace hybrid
