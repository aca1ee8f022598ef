#pragma once
// The places a tensor can be put in, as rules and plans name them.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hybrid {

enum class DeviceKind {
  cpu,   // CPU: memory of the whole machine
  node,  // NODE0..: memory of one NUMA node
  disk,  // DISK: stays in the mapped file; the system reads it when it is used
  cuda,  // CUDA0..: a GPU
  sim,   // SIM0..: a simulated device
};

/// "cpu", "node", "disk", "cuda", "sim"
std::string_view name_of(DeviceKind kind);

struct DeviceName {
  DeviceKind kind = DeviceKind::cpu;
  uint32_t index = 0;  // 0 for CPU and DISK, which are one each

  auto operator<=>(const DeviceName&) const = default;

  /// Whether products with what lies there run beside the CPU's.
  bool is_accelerator() const { return kind == DeviceKind::cuda || kind == DeviceKind::sim; }
};

/// "CPU", "NODE1", "DISK", "CUDA0", "SIM0"
std::string text_of(DeviceName device);

/// The inverse, exactly as written there; nothing for other words.
std::optional<DeviceName> parse_device(std::string_view word);

/// Why a word is no device, with what was probably meant: "unknown device 'CUDA' (did you mean
/// CUDA0?); devices are CPU, CUDA0.., SIM0.., DISK".
std::string unknown_device_text(std::string_view word);

}  // namespace hybrid
