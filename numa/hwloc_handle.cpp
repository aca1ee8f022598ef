#include "numa/hwloc_handle.h"

#include <hwloc.h>

#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace hybrid {

void DestroyHwloc::operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }

HwlocHandle load_hwloc(HwlocScope scope) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) fail("hwloc cannot start: {}", std::strerror(errno));
  HwlocHandle handle(topology);
  hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  if (scope == HwlocScope::devices_too) {
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  }
  if (hwloc_topology_load(topology) != 0) {
    fail("hwloc cannot read this machine's topology: {}; is /sys mounted?", std::strerror(errno));
  }
  check_is_this_machine(topology);
  return handle;
}

void check_is_this_machine(hwloc_topology* topology) {
  if (hwloc_topology_is_thissystem(topology) != 0) return;
  for (const char* name :
       {"HWLOC_XMLFILE", "HWLOC_SYNTHETIC", "HWLOC_FSROOT", "HWLOC_CPUID_PATH"}) {
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    fail(
        "the environment has {}={}, by which hwloc describes another machine than this one; unset "
        "{} to run here",
        name, printable(value), name);
  }
  fail("hwloc describes another machine than this one; unset the environment's HWLOC_* variables");
}

}  // namespace hybrid
