#pragma once
// What the machine is, what this process obtains of it, and the remedy for what it is refused: for
// `hybrid-run topology`, as text for people and as JSON for programs.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "numa/huge_pages.h"
#include "numa/launch_context.h"
#include "numa/node_arena.h"
#include "numa/node_memory.h"
#include "numa/topology.h"
#include "runtime/stored_node_bandwidth.h"

namespace hybrid {

struct TopologyReport {
  Topology topology;
  LaunchContext launch;
  std::vector<NodeMemory> memory;  // of nodes, as much as the system shows
  HugePageState huge_pages;
  std::vector<NodeArena::SliceReport> probes;  // memory taken on each usable node, and given back
  std::optional<bool> numa_balancing;          // none: the kernel has none
  std::optional<StoredNodeBandwidth> bandwidth;
  std::string bandwidth_source;      // "measured now", "stored in ..."; why there is none
  std::vector<std::string> notices;  // what was refused or stands in the way, with its remedy

  const NodeMemory* find_memory(int node) const;
  const NodeArena::SliceReport* find_probe(int node) const;
};

/// Looks, and takes some MiB on each node to see what comes; measures nothing. Throws Error for a
/// machine inherited through the environment (numa/hwloc_handle.h).
TopologyReport inspect_machine();

/// Lines, each ended.
std::string topology_text(const TopologyReport& report);

/// Numbers in base units; what is not known is null.
///   cpu          {model, n_packages, n_cores, n_cpus, smt, n_performance_cores,
///                n_efficiency_cores, isa, isa_reason}
///   nodes        [{node, package, cpus, n_cores, memory_bytes, free_bytes, available_bytes: that
///                can be bound to it now, huge_pages_total, huge_pages_free: reserved ones of 2 MB,
///                usable: by cpuset and policy, distances: to each node in turn, bound: whether
///                memory that was asked for there came from there, local_bytes_per_s}]
///   caches       [{name, size_bytes, count, cores_each}]; l3_groups [{cpus, size_bytes}]
///   gpus         [{pci_address, vendor_id, device_id, name, node}]
///   huge_pages   {mode, defrag, page_bytes, obtainable, asked_bytes, obtained_bytes: of the
///   probes} launch       {cpus, cpuset_cpus, memory_nodes, policy, policy_nodes, usable_nodes,
///   cpu_quota,
///                text}
///   numa_balancing
///   bandwidth    null, or {measured, all_local_bytes_per_s, pairs: [{cpu_node, memory_node,
///                bytes_per_s}]}; bandwidth_source
///   notices      sentences
nlohmann::ordered_json topology_json(const TopologyReport& report);

}  // namespace hybrid
