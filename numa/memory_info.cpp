#include "numa/memory_info.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "numa/cgroup.h"

namespace hybrid {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

/// A line of /proc/meminfo: "MemTotal:".
uint64_t machine_bytes(const std::string& line) {
  std::ifstream in("/proc/meminfo");
  std::string name;
  uint64_t n_kib = 0;
  while (in >> name >> n_kib) {
    if (name == line) return n_kib * 1024;
    in.ignore(100, '\n');
  }
  return kUnknown;
}

uint64_t number_in(const std::string& file) {
  std::ifstream in(file);
  uint64_t value = 0;
  return in >> value ? value : kUnknown;  // "max" is no number
}

/// Page cache counts as used in a cgroup, too, though it gives way: what is "inactive" is free.
uint64_t cgroup_available_bytes() {
  const std::string group = own_cgroup();
  if (group.empty()) return kUnknown;
  const std::string folder = kCgroupMount + group;
  const uint64_t limit = number_in(folder + "/memory.max");
  const uint64_t used = number_in(folder + "/memory.current");
  if (limit == kUnknown || used == kUnknown) return kUnknown;
  uint64_t reclaimable = 0, value = 0;
  std::ifstream stat(folder + "/memory.stat");
  std::string name;
  while (stat >> name >> value) {
    if (name == "inactive_file" || name == "active_file") reclaimable += value;
  }
  const uint64_t held = used - std::min(used, reclaimable);
  return limit - std::min(limit, held);
}

}  // namespace

uint64_t available_memory_bytes() {
  return std::min(machine_bytes("MemAvailable:"), cgroup_available_bytes());
}

uint64_t total_memory_bytes() {
  const std::string group = own_cgroup();
  const uint64_t limit = group.empty() ? kUnknown : number_in(kCgroupMount + group + "/memory.max");
  return std::min(machine_bytes("MemTotal:"), limit);
}

}  // namespace hybrid
