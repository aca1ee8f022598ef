#pragma once
// How fast the memory of several nodes is read, by where weights lie and who reads them: arithmetic
// on what was measured of a node, for machines that are described.

#include <string>
#include <vector>

#include "numa/node_plan.h"

namespace hybrid {

/// Until the workers of all nodes have met after a product, and read what others computed of it: an
/// assumption, a few transfers of a cache line between sockets. Not measured on such a machine.
inline constexpr double kNodeMeetSeconds = 2e-6;

struct NodeRates {
  double read_rate = 0;     // bytes per second, of weights that all nodes in use share
  double meet_seconds = 0;  // see DeviceSpeed
  std::string text = {};    // how it comes about, for a person
};

/// local: of each node, what its cores read of its own memory, all nodes at once, bytes per second;
/// remote: what the cores of one node read of other nodes' memory. At least one node.
///
///   distribute  each node reads its own rows: the sum
///   isolate     the first node alone
///   off         pages lie on all nodes alike, and every node reads its rows from all of them: the
///               slowest node's time for its share
///
/// Not for the other modes, which are a launch's.
NodeRates node_rates(const std::vector<double>& local, double remote, NumaMode mode);

}  // namespace hybrid
