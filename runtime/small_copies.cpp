#include "runtime/small_copies.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {

SmallCopies::SmallCopies(Device& device, DeviceStream& stream, uint64_t max_numbers)
    : stream_(stream),
      max_numbers_(max_numbers),
      pinned_(device.allocate_pinned(kSlots * max_numbers * sizeof(int32_t), "what a step tells")) {
  for (auto& event : sent_) event = device.make_event();
}

void SmallCopies::copy(std::span<const int32_t> numbers, int32_t* to) {
  HYBRID_CHECK(numbers.size() <= max_numbers_);
  DeviceEvent& sent = *sent_[next_];
  sent.wait(kDeviceTimeout);
  int32_t* const from = pinned_.as<int32_t>() + next_ * max_numbers_;
  std::copy(numbers.begin(), numbers.end(), from);
  stream_.copy_to_device(reinterpret_cast<std::byte*>(to), reinterpret_cast<std::byte*>(from),
                         numbers.size_bytes());
  stream_.record(sent);
  next_ = (next_ + 1) % kSlots;
}

}  // namespace hybrid
