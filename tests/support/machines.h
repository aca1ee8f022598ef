#pragma once
// Machines that are not here: hwloc's synthetic topologies, cut and marked to look like real ones,
// and XML files of our own in tests/numa/machines.

#include <string>

#include "numa/hwloc_handle.h"
#include "numa/topology.h"

namespace hybrid::test {

HwlocHandle synthetic_hwloc(const std::string& description);
/// A file of tests/numa/machines.
HwlocHandle xml_hwloc(const std::string& name);

/// Two Xeon 6980P with three nodes each (SNC3): dies of 43, 43 and 42 cores.
Topology two_xeon_6980p();
/// Two EPYC 9355 with four nodes each (NPS4), of two CCDs of four cores.
Topology two_epyc_9355();
/// Threadripper 7970X: one node, four CCDs of eight cores.
Topology threadripper_7970x();
/// Ryzen 7950X: one node, two CCDs of eight cores.
Topology ryzen_7950x();
/// A laptop with six performance cores of two processors each and eight efficiency cores.
Topology laptop_with_e_cores();
/// Two sockets, each with two nodes over the same processors: DRAM, and high-bandwidth memory.
Topology two_sockets_with_hbm();
/// Two nodes of four cores with distances and a GPU at the second, and a third without processors.
Topology two_nodes_and_cxl();

}  // namespace hybrid::test
