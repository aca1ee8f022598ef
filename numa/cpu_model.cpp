#include "numa/cpu_model.h"

#include <algorithm>
#include <fstream>

#include "numa/number_list.h"

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
  std::ifstream file("/sys/devices/system/node/online");
  std::string text;
  std::getline(file, text);
  const auto nodes = parse_number_list(text);
  return nodes ? std::max(static_cast<uint32_t>(nodes->size()), 1u) : 1;
}

}  // namespace hybrid
