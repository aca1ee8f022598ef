#include "base/units.h"

#include <fmt/format.h>

namespace hybrid {

std::string format_bytes(uint64_t n_bytes) {
  const auto value = static_cast<double>(n_bytes);
  if (n_bytes < (1ull << 10)) return fmt::format("{} B", n_bytes);
  if (n_bytes < (1ull << 20)) return fmt::format("{:.1f} KiB", value / 0x1p10);
  if (n_bytes < (1ull << 30)) return fmt::format("{:.1f} MiB", value / 0x1p20);
  return fmt::format("{:.2f} GiB", value / 0x1p30);
}

}  // namespace hybrid
