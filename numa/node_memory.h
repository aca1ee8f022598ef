#pragma once
// How much memory each node has left. A node's memory is not the machine's: what is bound to a node
// that is full kills the process, with gigabytes free on the next one.

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace hybrid {

struct NodeMemory {
  int node = 0;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t file_bytes = 0;       // page cache, which gives way
  uint64_t huge_pages_free = 0;  // of 2 MB, reserved (hugetlbfs): nobody else's
  uint64_t huge_pages_total = 0;

  /// What is left to the kernel, which needs some to work with: a 64th, at least 32 MiB.
  uint64_t kept_bytes() const;
  /// What can be bound to it: free memory and page cache, less what is kept.
  uint64_t available_bytes() const;

  bool operator==(const NodeMemory&) const = default;
};

/// The text of a node's meminfo ("Node 0 MemFree:  1234 kB").
NodeMemory parse_node_meminfo(int node, std::string_view text);

/// Where the system shows its nodes.
inline constexpr const char* kNodeFolder = "/sys/devices/system/node";

/// All nodes that are in use, ascending; none where the system does not say.
std::vector<NodeMemory> read_node_memory(const std::filesystem::path& folder = kNodeFolder);

}  // namespace hybrid
