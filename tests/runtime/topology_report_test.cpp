// The report of `topology` on machines that are not here.

#include "runtime/topology_report.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/support/machines.h"

using namespace hybrid;
using namespace hybrid::test;
using Json = nlohmann::ordered_json;

namespace {

/// Two nodes and one without processors, bound to the first; the second refused the binding.
TopologyReport sample() {
  TopologyReport r;
  r.topology = two_nodes_and_cxl();
  r.launch = {.cpus = {0, 1},
              .policy = MemoryPolicy::bind,
              .policy_nodes = {0, 1},
              .memory_nodes = {0, 1, 2},
              .cpu_quota = 1.5};
  r.memory = {{0, 1 << 30, 1 << 29, 0, 0, 0}, {1, 1 << 30, 1 << 29, 0, 4, 8}};
  r.huge_pages = {"madvise", "madvise", false, 2 << 20};
  r.probes = {{0, 8 << 20, true, {true, {{0, 4}}, 0}, 8 << 20},
              {1, 8 << 20, false, {true, {{0, 4}}, 0}, 0}};
  r.numa_balancing = true;
  r.bandwidth = StoredNodeBandwidth{
      "x", {0, 1, 2}, "2026-11-21T19:50Z", {{{0, 0, 200}, {0, 1, 80}, {1, 1, 190}}, 390}};
  r.bandwidth_source = "measured then";
  r.notices = {"something was refused; do this"};
  return r;
}

}  // namespace

TEST_CASE("topology --json: numbers in base units, null for what is not known") {
  const Json json = topology_json(sample());
  CHECK(json["cpu"]["n_cores"] == 8);
  const Json& nodes = json["nodes"];
  REQUIRE(nodes.size() == 3);
  CHECK(nodes[0]["cpus"] == Json({0, 1, 2, 3}));
  CHECK(nodes[0]["bound"] == true);
  CHECK(nodes[0]["local_bytes_per_s"] == 200e9);
  CHECK(nodes[0]["available_bytes"] == (1 << 29) - (32 << 20));
  CHECK(nodes[0]["distances"] == Json({10, 21, 24}));
  CHECK(nodes[1]["bound"] == false);
  CHECK(nodes[1]["huge_pages_free"] == 4);
  CHECK(nodes[1]["usable"] == true);
  CHECK(nodes[2]["usable"] == false);
  CHECK(nodes[2]["bound"].is_null());
  CHECK(nodes[2]["free_bytes"].is_null());
  CHECK(nodes[2]["local_bytes_per_s"].is_null());
  CHECK(nodes[2]["package"].is_null());
  CHECK(json["gpus"][0]["node"] == 1);
  CHECK(json["gpus"][1]["node"].is_null());
  CHECK(json["launch"]["policy"] == "bind");
  CHECK(json["launch"]["usable_nodes"] == Json({0, 1}));
  CHECK(json["launch"]["cpu_quota"] == 1.5);
  CHECK(json["huge_pages"]["asked_bytes"] == 16 << 20);
  CHECK(json["huge_pages"]["obtained_bytes"] == 8 << 20);
  CHECK(json["numa_balancing"] == true);
  CHECK(json["bandwidth"]["pairs"].size() == 3);
  CHECK(json["bandwidth"]["all_local_bytes_per_s"] == 390e9);
  TopologyReport unmeasured = sample();
  unmeasured.bandwidth.reset();
  CHECK(topology_json(unmeasured)["bandwidth"].is_null());
}

TEST_CASE("topology for people: a line for each node, the remedies at the end") {
  const std::string text = topology_text(sample());
  CAPTURE(text);
  for (const char* part :
       {"   0        0      4   64.00 GiB   480.0 MiB  bound               0-3",
        "   1        1      4   64.00 GiB   480.0 MiB  not bound           4-7",
        "   2        -      0  256.00 GiB           -  not usable          none",
        "  node 0            200.0 GB/s     80.0 GB/s             -",
        "  all nodes at once, each its own: 390.0 GB/s",
        "GPU: 0000:41:00.0 Example 3D controller, at node 1",
        "of 16.0 MiB that were tried 8.0 MiB came in huge pages; 8 reserved, not used",
        "launched with: memory bound to nodes 0-1 (numactl -m), processors 0-1 of 0-7, paid for "
        "1.5 of them (cpu.max)",
        "note: something was refused; do this\n"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}
