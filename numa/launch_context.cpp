#include "numa/launch_context.h"

#include <fmt/format.h>
#include <numaif.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "numa/cgroup.h"

namespace hybrid {
namespace {

// The kernel refuses a mask that is shorter than the largest node it could have.
constexpr unsigned long kMaskBits = 4096, kWordBits = 8 * sizeof(unsigned long);

void read_policy(LaunchContext& launch) {
  // Newer than the header: preferred among several, interleaved by weights.
  constexpr int kPreferredMany = 5, kWeightedInterleave = 6, kModeBits = 0xff;
  int mode = 0;
  std::array<unsigned long, kMaskBits / kWordBits> mask{};
  if (get_mempolicy(&mode, mask.data(), kMaskBits, nullptr, 0) != 0) {
    launch.policy = MemoryPolicy::unknown;
    return;
  }
  for (unsigned long n = 0; n < kMaskBits; ++n) {
    if ((mask[n / kWordBits] >> (n % kWordBits) & 1) != 0) {
      launch.policy_nodes.push_back(static_cast<int>(n));
    }
  }
  switch (mode & kModeBits) {
    case MPOL_BIND:
      launch.policy = MemoryPolicy::bind;
      break;
    case MPOL_INTERLEAVE:
    case kWeightedInterleave:
      launch.policy = MemoryPolicy::interleave;
      break;
    case MPOL_PREFERRED:
    case kPreferredMany:
      // Without nodes: the one that touches it, which is the standard.
      if (!launch.policy_nodes.empty()) launch.policy = MemoryPolicy::preferred;
      break;
    default:
      break;
  }
  if (launch.policy == MemoryPolicy::standard) launch.policy_nodes.clear();
}

}  // namespace

NodeList LaunchContext::usable_nodes() const {
  return is_memory_bound() ? common_numbers(memory_nodes, policy_nodes) : memory_nodes;
}

StatusLists parse_status(std::string_view text) {
  StatusLists lists;
  const auto read = [&](std::string_view name, std::vector<int>& numbers) {
    const size_t at = text.find("\n" + std::string(name) + ":");
    if (at == std::string_view::npos) return;
    std::string_view line = text.substr(at + name.size() + 2);
    line = line.substr(0, line.find('\n'));
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t")));
    numbers = parse_number_list(line).value_or(std::vector<int>{});
  };
  read("Cpus_allowed_list", lists.cpus);
  read("Mems_allowed_list", lists.nodes);
  return lists;
}

LaunchContext read_launch_context() {
  std::ifstream file("/proc/self/status");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  StatusLists lists = parse_status(text);
  LaunchContext launch{.cpus = std::move(lists.cpus), .memory_nodes = std::move(lists.nodes)};
  read_policy(launch);
  launch.cpu_quota = cpu_quota(kCgroupMount, own_cgroup());
  launch.current_cpu = sched_getcpu();
  return launch;
}

std::string policy_text(const LaunchContext& launch) {
  const std::string nodes = nodes_text(launch.policy_nodes);
  switch (launch.policy) {
    case MemoryPolicy::bind:
      return fmt::format("memory bound to {} (numactl -m)", nodes);
    case MemoryPolicy::interleave:
      return fmt::format("memory interleaved over {} (numactl --interleave)", nodes);
    case MemoryPolicy::preferred:
      return fmt::format("memory preferred on {} (numactl --preferred)", nodes);
    case MemoryPolicy::unknown:
      return "memory policy unknown, the kernel does not tell";
    case MemoryPolicy::standard:
      break;
  }
  return "memory where it is first touched";
}

std::string launch_text(const LaunchContext& launch, const CpuList& all_cpus) {
  std::string text = policy_text(launch);
  if (launch.cpus == all_cpus) {
    text = "all processors, " + text;
  } else {
    text += fmt::format(", processors {} of {}", number_list_text(launch.cpus),
                        number_list_text(all_cpus));
  }
  if (launch.cpu_quota)
    text += fmt::format(", paid for {:.3g} of them (cpu.max)", *launch.cpu_quota);
  return text;
}

}  // namespace hybrid
