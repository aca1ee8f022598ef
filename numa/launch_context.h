#pragma once
// What the process was launched with: processors (taskset, numactl, a cpuset), where its memory may
// and should come from (numactl, a cpuset), and how much of the processors it is paid for.
//
// A cpuset is a wall: what is outside of it fails. numactl and taskset are wishes, which mbind and
// sched_setaffinity would override without a word; so they have to be read, and respected.

#include <optional>
#include <string>
#include <string_view>

#include "numa/number_list.h"

namespace hybrid {

/// Where the kernel takes the process's memory from, unless told otherwise for a part of it.
enum class MemoryPolicy {
  standard,    // the node of the processor that touches it first
  bind,        // policy_nodes and no others (numactl -m)
  interleave,  // policy_nodes in turn, page by page (numactl --interleave)
  preferred,   // policy_nodes first (numactl --preferred)
  unknown,     // the kernel does not tell, as in some containers
};

struct LaunchContext {
  CpuList cpus = {};  // the processors that the process may run on
  MemoryPolicy policy = MemoryPolicy::standard;
  NodeList policy_nodes = {};            // of bind, interleave and preferred
  NodeList memory_nodes = {};            // that a cpuset leaves it memory of
  std::optional<double> cpu_quota = {};  // processors that cpu.max pays for; none: any number
  int current_cpu = -1;                  // where the process runs now

  /// Nodes from which memory may be taken without going against cpuset or policy.
  NodeList usable_nodes() const;
  bool is_memory_bound() const {
    return policy == MemoryPolicy::bind || policy == MemoryPolicy::interleave;
  }
};

/// Of this process: its first thread, which is never pinned by us.
LaunchContext read_launch_context();

/// Cpus_allowed_list and Mems_allowed_list of the text of /proc/self/status. Empty lists where they
/// are missing.
struct StatusLists {
  CpuList cpus;
  NodeList nodes;
};
StatusLists parse_status(std::string_view text);

/// "memory bound to node 0 (numactl -m), processors 0-15 of 0-31": of a machine with these
/// processors. "all processors, memory where it is first touched" where nothing was asked.
std::string launch_text(const LaunchContext& launch, const CpuList& all_cpus);

/// "memory bound to node 0 (numactl -m)"
std::string policy_text(const LaunchContext& launch);

}  // namespace hybrid
