#include "numa/node_memory.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/support/temp_dir.h"

using namespace hybrid;

namespace {

constexpr const char* kMeminfo =
    "Node 3 MemTotal:       16384000 kB\n"
    "Node 3 MemFree:         1024000 kB\n"
    "Node 3 Active(file):     400000 kB\n"
    "Node 3 Inactive(file):   600000 kB\n"
    "Node 3 HugePages_Total:    12\n"
    "Node 3 HugePages_Free:     10\n";

}  // namespace

TEST_CASE("a node's memory: what is free, page cache, less what the kernel keeps") {
  const NodeMemory m = parse_node_meminfo(3, kMeminfo);
  CHECK(m == NodeMemory{3, 16384000ull << 10, 1024000ull << 10, 1000000ull << 10, 10, 12});
  CHECK(m.kept_bytes() == 256000ull << 10);
  CHECK(m.available_bytes() == (2024000ull << 10) - (256000ull << 10));
  CHECK(NodeMemory{.total_bytes = 1 << 20, .free_bytes = 1 << 20}.available_bytes() == 0);
  CHECK(parse_node_meminfo(1, "nonsense\nNode x y\n") == NodeMemory{.node = 1});
}

TEST_CASE("the nodes of a system, gaps in their numbers included") {
  const test::TempDir dir;
  CHECK(read_node_memory(dir.path()).empty());
  dir.write("online", "0,3\n");
  std::filesystem::create_directories(dir / "node3");
  dir.write("node3/meminfo", kMeminfo);
  const auto nodes = read_node_memory(dir.path());
  REQUIRE(nodes.size() == 2);
  CHECK(nodes[0] == NodeMemory{.node = 0});
  CHECK(nodes[1].total_bytes == 16384000ull << 10);
}

TEST_CASE("this machine's nodes have memory") {
  uint64_t total = 0;
  for (const NodeMemory& m : read_node_memory()) total += m.total_bytes;
  CHECK(total > 0);
}
