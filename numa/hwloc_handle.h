#pragma once
// hwloc's view of this machine, owned, and the one place that loads it.
//
// hwloc takes another machine's description from HWLOC_XMLFILE, HWLOC_SYNTHETIC or HWLOC_FSROOT. A
// shell that has one of them set, from a session with lstopo, would have us plan for a machine that
// is not there, on which every binding silently does nothing.

#include <memory>

struct hwloc_topology;  // of hwloc.h, which only those include that read it

namespace hybrid {

struct DestroyHwloc {
  void operator()(hwloc_topology* topology) const;
};
using HwlocHandle = std::unique_ptr<hwloc_topology, DestroyHwloc>;

/// What hwloc looks for: devices take it tens of milliseconds more.
enum class HwlocScope { processors, devices_too };

/// This machine, with what a cpuset hides: whether we were given a part of it shows only so.
/// Throws Error where hwloc fails, and where it describes another machine.
HwlocHandle load_hwloc(HwlocScope scope);

/// Throws Error, naming the variable of the environment that asks for it, where the topology is of
/// another machine.
void check_is_this_machine(hwloc_topology* topology);

}  // namespace hybrid
