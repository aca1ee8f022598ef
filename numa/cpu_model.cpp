#include "numa/cpu_model.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace hybrid {

std::string cpu_model_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) break;
    const size_t first = line.find_first_not_of(" \t", colon + 1);
    if (first != std::string::npos) return line.substr(first);
  }
  return "unknown";
}

uint32_t n_numa_nodes() {
  // "0-1,4": ranges of nodes.
  std::ifstream file("/sys/devices/system/node/online");
  uint32_t n = 0;
  for (std::string range; std::getline(file, range, ',');) {
    const size_t dash = range.find('-');
    const long first = std::strtol(range.c_str(), nullptr, 10);
    const long last =
        dash == std::string::npos ? first : std::strtol(range.c_str() + dash + 1, nullptr, 10);
    if (last >= first) n += static_cast<uint32_t>(last - first + 1);
  }
  return std::max(n, 1u);
}

}  // namespace hybrid
