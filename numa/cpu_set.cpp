#include "numa/cpu_set.h"

#include <hwloc.h>

#include <algorithm>

namespace hybrid {

int n_allowed_cores() {
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) != 0) return 1;
  if (hwloc_topology_load(topology) != 0) {
    hwloc_topology_destroy(topology);
    return 1;
  }
  hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
  hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS);
  int n_cores = hwloc_get_nbobjs_inside_cpuset_by_type(topology, allowed, HWLOC_OBJ_CORE);
  // A binding to one SMT sibling holds no whole core: then count the processors themselves.
  if (n_cores <= 0) n_cores = hwloc_bitmap_weight(allowed);
  hwloc_bitmap_free(allowed);
  hwloc_topology_destroy(topology);
  return std::max(1, n_cores);
}

}  // namespace hybrid
