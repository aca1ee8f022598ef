#include "runtime/upload.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {

Upload::Upload(Device& device)
    : pinned_(device.allocate_pinned(2 * max_piece(), "copies of weights")),
      stream_(device.make_stream()),
      sent_{device.make_event(), device.make_event()} {}

std::span<std::byte> Upload::next() {
  sent_[half_]->wait(kDeviceTimeout);
  return {pinned_.data() + half_ * max_piece(), max_piece()};
}

void Upload::send(std::byte* to, uint64_t n_bytes) {
  HYBRID_CHECK(n_bytes <= max_piece());
  stream_->copy_to_device(to, pinned_.data() + half_ * max_piece(), n_bytes);
  stream_->record(*sent_[half_]);
  half_ = 1 - half_;
}

void Upload::copy(std::byte* to, std::span<const std::byte> from) {
  while (!from.empty()) {
    const auto piece = from.first(std::min<uint64_t>(from.size(), max_piece()));
    std::memcpy(next().data(), piece.data(), piece.size());
    send(to, piece.size());
    to += piece.size();
    from = from.subspan(piece.size());
  }
}

}  // namespace hybrid
