#pragma once
// What the machine is: memory nodes, packages, cores, caches, GPUs; all of it, whatever we are
// allowed (launch_context.h has that). Read from hwloc; numbers are the kernel's, never hwloc's,
// because only those mean anything to mbind and sched_setaffinity.

#include <cstdint>
#include <string>
#include <vector>

#include "numa/gpu_info.h"
#include "numa/number_list.h"

struct hwloc_topology;

namespace hybrid {

/// Processors that tell their cores apart (Intel's E-cores, Arm's little ones) have both kinds; all
/// others have performance cores alone.
enum class CoreKind { performance, efficiency };

struct CpuCore {
  CpuList cpus;  // its SMT siblings
  CoreKind kind = CoreKind::performance;
  int package = -1;  // its number; -1 where that is unknown
  int l3 = -1;       // index into l3_groups; -1 where there is none

  bool operator==(const CpuCore&) const = default;
};

/// The processors behind one L3 cache: a CCD or CCX, a die, a package.
struct L3Group {
  CpuList cpus;
  uint64_t n_bytes = 0;

  bool operator==(const L3Group&) const = default;
};

struct MemoryNode {
  int number = 0;
  CpuList cpus;  // to which it is near; empty: memory only (CXL). Two nodes may have the same
                 // (high-bandwidth memory beside DRAM)
  uint64_t memory_bytes = 0;
  int package = -1;  // the one its processors are of; -1: of several, or of none

  bool operator==(const MemoryNode&) const = default;
};

/// All caches of a level and kind.
struct CacheKind {
  std::string name;      // "L1d", "L1i", "L2", "L3"
  uint64_t n_bytes = 0;  // of the largest
  uint32_t n_caches = 0;
  uint32_t n_cores_each = 0;  // most cores behind one

  bool operator==(const CacheKind&) const = default;
};

struct Topology {
  std::string cpu_model;
  std::vector<MemoryNode> nodes;   // ascending; at least one
  std::vector<int> packages;       // their numbers, ascending
  std::vector<L3Group> l3_groups;  // in the order of their first processors
  std::vector<CpuCore> cores;      // in hwloc's order: by package, node, L3
  std::vector<CacheKind> caches;   // from L1 up
  std::vector<GpuInfo> gpus;       // by address
  /// distances[i][j] of memory at nodes[j] for processors at nodes[i], as the firmware puts it (10
  /// is near); empty where it says nothing.
  std::vector<std::vector<uint32_t>> distances;
  CpuList cpus;           // all processors
  CpuList cpuset_cpus;    // of them those that the cgroup's cpuset leaves
  NodeList cpuset_nodes;  // the same of nodes

  /// Null where there is no such node.
  const MemoryNode* find_node(int number) const;
  uint32_t n_smt() const;  // most siblings of a core; at least 1
  /// The memory that a core is at: of the nodes that have its processors the one with the fewest,
  /// of several alike the largest memory. Null where no node has them.
  const MemoryNode* home_of(const CpuCore& core) const;
};

/// Reads a loaded topology of this machine or any other: synthetic ones, XML.
Topology describe_topology(hwloc_topology* topology);

/// This machine. GPUs come from hwloc, or where its PCI plugin is not installed from sysfs. Throws
/// Error as load_hwloc() does.
Topology this_topology();

}  // namespace hybrid
