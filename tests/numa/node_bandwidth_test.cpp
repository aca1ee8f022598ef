#include "numa/node_bandwidth.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/machines.h"

using namespace hybrid;

TEST_CASE("every pair of processors and memory that may be used is measured") {
  const Topology topology = this_topology();
  const LaunchContext launch = read_launch_context();
  const auto found =
      measure_node_bandwidth(topology, launch, {.buffer_bytes = 32 << 20, .seconds_of_each = 0.01});
  REQUIRE(found.has_value());
  REQUIRE(!found->pairs.empty());
  for (const NodeBandwidth::Pair& pair : found->pairs) {
    CHECK(pair.gb_per_s > 0);
    CHECK(std::isfinite(pair.gb_per_s));
    CHECK(found->between(pair.cpu_node, pair.memory_node) == pair.gb_per_s);
  }
  CHECK(found->all_local_gb_per_s > 0);
  CHECK(found->between(1000, 1000) == 0);
}

TEST_CASE("a measurement can be stopped, and leaves out memory that may not be used") {
  const Topology topology = this_topology();
  LaunchContext launch = read_launch_context();
  const std::atomic<bool> stop{true};
  CHECK_FALSE(measure_node_bandwidth(topology, launch, {.buffer_bytes = 16 << 20}, &stop));
  launch.memory_nodes = {};
  const auto none = measure_node_bandwidth(topology, launch, {.buffer_bytes = 16 << 20});
  REQUIRE(none.has_value());
  CHECK(none->pairs.empty());
  CHECK(none->notices.size() == topology.nodes.size());
}

TEST_CASE("the rates that a node plan takes are those of nodes with processors, or none") {
  const Topology topology = test::two_nodes_and_cxl();
  NodeBandwidth b{.pairs = {{0, 0, 50}, {0, 1, 20}, {0, 2, 10}, {1, 0, 20}, {1, 1, 40}}};
  CHECK(b.local_rates(topology) == std::vector<double>{50, 40, 0});
  CHECK_FALSE(b.is_whole(topology));
  b.pairs.push_back({1, 2, 10});
  CHECK(b.is_whole(topology));
  b.pairs.resize(4);
  CHECK(b.local_rates(topology).empty());
}
