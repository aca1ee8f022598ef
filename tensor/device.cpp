#include "tensor/device.h"

#include <utility>

#include "base/error.h"
#include "base/units.h"

namespace hybrid {

DeviceMemory::~DeviceMemory() {
  if (device_ != nullptr) device_->release(*this);
}

void DeviceMemory::swap(DeviceMemory& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(where_, other.where_);
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
}

void Device::check_free(uint64_t n_bytes, const std::string& what) const {
  const uint64_t n_free = capacity_bytes_ - used_bytes_;
  if (n_bytes <= n_free) return;
  fail("{} has no room for {}: {} are needed, {} of {} are free", title(), what,
       format_bytes(n_bytes), format_bytes(n_free), format_bytes(capacity_bytes_));
}

DeviceMemory Device::allocate(uint64_t n_bytes, const std::string& what) {
  if (n_bytes == 0) return {};
  check_free(n_bytes, what);
  std::byte* data = take(DeviceMemory::Where::device, n_bytes, what);
  used_bytes_ += n_bytes;
  return {*this, DeviceMemory::Where::device, data, n_bytes};
}

DeviceMemory Device::count(uint64_t n_bytes, const std::string& what) {
  if (n_bytes == 0) return {};
  check_free(n_bytes, what);
  used_bytes_ += n_bytes;
  return {*this, DeviceMemory::Where::device, nullptr, n_bytes};
}

DeviceMemory Device::allocate_pinned(uint64_t n_bytes, const std::string& what) {
  if (n_bytes == 0) return {};
  std::byte* data = take(DeviceMemory::Where::host, n_bytes, what);
  pinned_bytes_ += n_bytes;
  return {*this, DeviceMemory::Where::host, data, n_bytes};
}

void Device::release(const DeviceMemory& memory) {
  const bool on_device = memory.where_ == DeviceMemory::Where::device;
  if (memory.data_ != nullptr) give_back(memory.where_, memory.data_);
  (on_device ? used_bytes_ : pinned_bytes_) -= memory.n_bytes_;
}

}  // namespace hybrid
