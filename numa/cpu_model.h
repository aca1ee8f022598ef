#pragma once
// What processor this is, for figures that belong to it.

#include <cstdint>
#include <string>

namespace hybrid {

/// "Intel(R) Xeon(R) Processor", as the system calls it; "unknown" where it does not say.
std::string cpu_model_name();

/// NUMA nodes of the machine that are in use; at least 1.
uint32_t n_numa_nodes();

}  // namespace hybrid
