#pragma once
// How busy the processors of a run were, and what went between them.

#include <cstdint>
#include <string>
#include <vector>

namespace hybrid {

struct LaneUse {
  double wait_seconds = 0;  // of the CPU, for devices
  uint64_t to_device_bytes = 0;
  uint64_t to_host_bytes = 0;
  // Of simulated devices, on their clock:
  double modelled_seconds = 0;
  double modelled_host_seconds = 0;             // of them, that the CPU worked
  std::vector<double> modelled_device_seconds;  // that each device worked or copied

  /// Since `before`, a count of the same lanes.
  LaneUse since(const LaneUse& before) const;
};

/// A line for a person, all figures for each of n steps that took `seconds`; "" without devices.
/// `what`: "a token", "prompt".
std::string lane_use_text(const LaneUse& use, const std::string& what, uint32_t n, double seconds);

}  // namespace hybrid
