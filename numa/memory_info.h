#pragma once
#include <cstdint>

namespace hybrid {

/// Memory this process can still take without pushing others out: MemAvailable of the machine, or
/// what its cgroup leaves where that is less. The largest number where neither can be read.
uint64_t available_memory_bytes();

/// All memory of the machine, or the limit of this process's cgroup where that is less. The largest
/// number where neither can be read.
uint64_t total_memory_bytes();

}  // namespace hybrid
