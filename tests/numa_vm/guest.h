#pragma once
// What the test cases for guests share.

#include <numaif.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "numa/node_arena.h"
#include "numa/node_plan.h"
#include "numa/topology.h"
#include "numa/worker_plan.h"

namespace hybrid::test {

constexpr uint64_t kMiB = 1 << 20;

/// What the guest's launcher made of us.
struct Guest {
  Topology topology = this_topology();
  LaunchContext launch = read_launch_context();

  NodePlan plan(NumaMode mode = NumaMode::automatic) const {
    return plan_nodes(topology, launch, mode);
  }
  /// n_bytes for each slice of a plan.
  static NodeArena arena(const NodePlan& plan, uint64_t n_bytes) {
    const std::vector<uint64_t> sizes(plan.slices.size(), n_bytes);
    return NodeArena(node_shares(plan, sizes), "the test");
  }
};

inline std::vector<int> list_in(const std::string& path) {
  std::ifstream file(path);
  return parse_number_list(std::string{std::istreambuf_iterator<char>(file), {}}).value();
}

/// Where each 4 KB page of memory is, asked for here and not by the code under test.
inline std::map<int, uint64_t> pages_by_node(std::span<const std::byte> memory) {
  std::vector<void*> pages;
  for (size_t i = 0; i < memory.size(); i += 4096) {
    pages.push_back(const_cast<std::byte*>(memory.data() + i));
  }
  std::vector<int> states(pages.size(), -1);
  move_pages(0, pages.size(), pages.data(), nullptr, states.data(), 0);
  std::map<int, uint64_t> n_on_node;
  for (const int state : states) ++n_on_node[state];
  return n_on_node;
}

/// All pages of the memory are on the node.
inline bool is_on(std::span<const std::byte> memory, int node) {
  const auto found = pages_by_node(memory);
  return found.size() == 1 && found.begin()->first == node;
}

/// The node whose memory is at a processor, by sysfs.
inline int node_of_cpu(int cpu) {
  for (const int node : list_in("/sys/devices/system/node/online")) {
    const std::string path = "/sys/devices/system/node/node" + std::to_string(node) + "/cpulist";
    if (has_number(list_in(path), cpu)) return node;
  }
  return -1;
}

}  // namespace hybrid::test
