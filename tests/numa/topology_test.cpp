// What is read of a machine, on machines that are not here.

#include "numa/topology.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <string>

#include "numa/cpu_set.h"
#include "tests/support/expect_error.h"
#include "tests/support/machines.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

CpuList cpus(const char* text) { return *parse_number_list(text); }

/// A variable of the environment for one test.
struct Variable {
  std::string name;
  Variable(const std::string& name, const std::string& value) : name(name) {
    setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variable() { unsetenv(name.c_str()); }
};

}  // namespace

TEST_CASE("two EPYC with four nodes each: nodes, packages, L3 groups, siblings") {
  const Topology t = two_epyc_9355();
  REQUIRE(t.nodes.size() == 8);
  CHECK(t.packages == std::vector<int>{0, 1});
  CHECK(t.nodes[0].cpus == cpus("0-7,64-71"));
  CHECK(t.nodes[7].cpus == cpus("56-63,120-127"));
  CHECK(t.nodes[3].package == 0);
  CHECK(t.nodes[4].package == 1);
  CHECK(t.nodes[5].memory_bytes == uint64_t{96} << 30);
  REQUIRE(t.cores.size() == 64);
  CHECK(t.cores[9] == CpuCore{{9, 73}, CoreKind::performance, 0, 2});
  CHECK(t.n_smt() == 2);
  REQUIRE(t.l3_groups.size() == 16);
  CHECK(t.l3_groups[1] == L3Group{cpus("4-7,68-71"), uint64_t{32} << 20});
  CHECK(t.home_of(t.cores[9])->number == 1);
  CHECK(t.distances.empty());
  CHECK(t.gpus.empty());
  CHECK(t.cpus == cpus("0-127"));
  CHECK(t.cpuset_cpus == t.cpus);
  const std::vector<CacheKind> caches{
      {"L1d", 48 << 10, 64, 1}, {"L2", 1 << 20, 64, 1}, {"L3", 32 << 20, 16, 4}};
  CHECK(t.caches == caches);
}

TEST_CASE("two Xeon with three nodes each, of 43, 43 and 42 cores") {
  const Topology t = two_xeon_6980p();
  REQUIRE(t.nodes.size() == 6);
  CHECK(t.cores.size() == 256);
  const char* expected[] = {"0-42,256-298",    "43-85,299-341",   "86-127,342-383",
                            "128-170,384-426", "171-213,427-469", "214-255,470-511"};
  for (size_t i = 0; i < 6; ++i) CHECK(t.nodes[i].cpus == cpus(expected[i]));
}

TEST_CASE("one node: CCDs are L3 groups") {
  const Topology t = ryzen_7950x();
  CHECK(t.nodes.size() == 1);
  CHECK(t.l3_groups.size() == 2);
  CHECK(t.cores[15] == CpuCore{{15, 31}, CoreKind::performance, 0, 1});
  CHECK(threadripper_7970x().l3_groups.size() == 4);
}

TEST_CASE("efficiency cores are told apart, where the processor does") {
  const Topology t = laptop_with_e_cores();
  REQUIRE(t.cores.size() == 14);
  CHECK(t.cores[5] == CpuCore{{10, 11}, CoreKind::performance, 0, 0});
  CHECK(t.cores[6] == CpuCore{{12}, CoreKind::efficiency, 0, 0});
}

TEST_CASE("two nodes on the same processors: the larger memory is home") {
  const Topology t = two_sockets_with_hbm();
  REQUIRE(t.nodes.size() == 4);
  CHECK(t.nodes[0].cpus == cpus("0-3"));
  CHECK(t.nodes[1].cpus == cpus("0-3"));
  CHECK(t.home_of(t.cores[0])->memory_bytes == uint64_t{512} << 30);
}

TEST_CASE("an XML file: memory without processors, distances, GPUs") {
  const Topology t = two_nodes_and_cxl();
  REQUIRE(t.nodes.size() == 3);
  CHECK(t.nodes[1].cpus == cpus("4-7"));
  CHECK(t.nodes[2].cpus.empty());
  CHECK(t.nodes[2].memory_bytes == uint64_t{256} << 30);
  CHECK(t.home_of(t.cores[5])->number == 1);
  const std::vector<std::vector<uint32_t>> distances{{10, 21, 24}, {21, 10, 24}, {24, 24, 10}};
  CHECK(t.distances == distances);
  REQUIRE(t.gpus.size() == 2);  // and not the management controller
  CHECK(t.gpus[0] == GpuInfo{"0000:41:00.0", 0x10de, 0x2331, "Example 3D controller", 1});
  CHECK(t.gpus[1].node == -1);
}

TEST_CASE("memory that all processors reach belongs to none, whatever it is said to hang below") {
  const Topology t = describe_topology(
      synthetic_hwloc("[numa(memory=1GiB)] pack:2 [numa(memory=2GiB)] core:2 pu:1").get());
  REQUIRE(t.nodes.size() == 3);
  int n_without = 0;
  for (const MemoryNode& node : t.nodes) {
    if (!node.cpus.empty()) continue;
    ++n_without;
    CHECK(node.memory_bytes == uint64_t{1} << 30);
  }
  CHECK(n_without == 1);
}

TEST_CASE("this machine has what the process may run on") {
  const Topology t = this_topology();
  CHECK(!t.nodes.empty());
  CHECK(t.cpuset_cpus == common_numbers(t.cpuset_cpus, t.cpus));
  const CpuList own = thread_affinity();
  CHECK(common_numbers(own, t.cpus) == own);
  size_t n = 0;
  for (const CpuCore& core : t.cores) n += core.cpus.size();
  CHECK(n == t.cpus.size());
  CHECK(t.cpu_model != "");
}

TEST_CASE("a machine inherited through the environment is refused, the variable named") {
  {
    const Variable phantom("HWLOC_SYNTHETIC", "node:2 core:4 pu:2");
    const char* expected =
        "the environment has HWLOC_SYNTHETIC=node:2 core:4 pu:2, by which hwloc describes another "
        "machine than this one; unset HWLOC_SYNTHETIC to run here";
    CHECK(error_of([] { this_topology(); }) == expected);
    CHECK(error_of([] { allowed_cpus(); }) == expected);
    // Who says that it is this machine gets it: tests of several nodes on one do so.
    const Variable insists("HWLOC_THISSYSTEM", "1");
    CHECK(this_topology().nodes.size() == 2);
  }
  const Variable phantom("HWLOC_XMLFILE",
                         HYBRID_TEST_SOURCE_DIR "/tests/numa/machines/two-nodes-and-cxl.xml");
  CHECK(error_of([] { this_topology(); }).starts_with("the environment has HWLOC_XMLFILE="));
}

TEST_CASE("GPUs in sysfs: class, vendor, node; what cannot be read is no GPU") {
  const TempDir dir;
  const auto add = [&](const std::string& address, const char* pci_class, const char* vendor,
                       const char* node) {
    std::filesystem::create_directories(dir / address);
    dir.write(address + "/class", pci_class);
    dir.write(address + "/vendor", vendor);
    dir.write(address + "/device", "0x2684\n");
    dir.write(address + "/numa_node", node);
  };
  add("0000:c1:00.0", "0x030200\n", "0x10de\n", "1\n");
  add("0000:01:00.0", "0x038000\n", "0x1002\n", "-1\n");
  add("0000:02:00.0", "0x030000\n", "0x1a03\n", "0\n");  // a management controller
  add("0000:03:00.0", "0x020000\n", "0x8086\n", "0\n");  // a network card
  std::filesystem::create_directories(dir / "0000:04:00.0");
  const std::vector<GpuInfo> expected{{"0000:01:00.0", 0x1002, 0x2684, "", -1},
                                      {"0000:c1:00.0", 0x10de, 0x2684, "", 1}};
  CHECK(gpus_in_sysfs(dir.path()) == expected);
  CHECK(gpus_in_sysfs(dir / "nowhere").empty());
}
