#include "runtime/lane_use.h"

#include "base/error.h"
#include "base/units.h"

namespace hybrid {

LaneUse LaneUse::since(const LaneUse& before) const {
  LaneUse use = *this;
  use.wait_seconds -= before.wait_seconds;
  use.to_device_bytes -= before.to_device_bytes;
  use.to_host_bytes -= before.to_host_bytes;
  use.modelled_seconds -= before.modelled_seconds;
  use.modelled_host_seconds -= before.modelled_host_seconds;
  for (size_t i = 0; i < before.modelled_device_seconds.size(); ++i) {
    use.modelled_device_seconds[i] -= before.modelled_device_seconds[i];
  }
  return use;
}

std::string lane_use_text(const LaneUse& use, const std::string& what, uint32_t n, double seconds) {
  if (use.to_device_bytes + use.to_host_bytes == 0 || n == 0) return {};
  const auto ms = [&](double s) { return fmt::format("{:.2f} ms", s / n * 1e3); };
  std::string text = fmt::format(
      "{}: the CPU worked {} and waited {} for devices; {} went to devices, {} came back", what,
      ms(seconds - use.wait_seconds), ms(use.wait_seconds), format_bytes(use.to_device_bytes / n),
      format_bytes(use.to_host_bytes / n));
  if (use.modelled_seconds == 0) return text;
  text += fmt::format("; modelled: {}, of which the CPU worked {}", ms(use.modelled_seconds),
                      ms(use.modelled_host_seconds));
  for (size_t i = 0; i < use.modelled_device_seconds.size(); ++i) {
    text += fmt::format(", simulated device {} {}", i, ms(use.modelled_device_seconds[i]));
  }
  return text;
}

}  // namespace hybrid
