#pragma once
// How fast each node's processors read each node's memory. The diagonal is what slices are read at;
// beside it stands what a slice on the wrong node would cost.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "numa/launch_context.h"
#include "numa/topology.h"

namespace hybrid {

struct NodeBandwidth {
  struct Pair {
    int cpu_node = 0;     // whose processors read
    int memory_node = 0;  // whose memory
    double gb_per_s = 0;  // 1e9 bytes

    bool operator==(const Pair&) const = default;
  };
  std::vector<Pair> pairs;                // by cpu_node, then memory_node
  double all_local_gb_per_s = 0;          // all nodes at once, each its own memory
  std::vector<std::string> notices = {};  // what could not be measured, and why

  bool operator==(const NodeBandwidth&) const = default;
  /// Of a node's processors and memory; 0 where it was not measured.
  double between(int cpu_node, int memory_node) const;
  /// between(n, n) for each node of a topology, as plan_nodes() takes them; empty where one that
  /// has processors is missing.
  std::vector<double> local_rates(const Topology& topology) const;
  /// Whether every node's memory was measured from every node with processors.
  bool is_whole(const Topology& topology) const;
};

struct BandwidthEffort {
  uint64_t buffer_bytes = 0;      // on each node, at most a quarter of what it has left
  double seconds_of_each = 0.25;  // a pair; at least three passes
};

/// A thread on each allowed core of a node reads a buffer that is bound to a node, pair by pair.
/// Nodes whose memory may not be used, or that have no room, are left out, with a notice. None
/// where `stop` ended it.
std::optional<NodeBandwidth> measure_node_bandwidth(const Topology& topology,
                                                    const LaunchContext& launch,
                                                    const BandwidthEffort& effort,
                                                    const std::atomic<bool>* stop = nullptr);

}  // namespace hybrid
