// Launched without numactl: all nodes are ours, however many there are.

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/syscall.h>

#include <thread>

#include "base/error.h"
#include "numa/cpu_set.h"
#include "numa/node_bandwidth.h"
#include "numa/workers.h"
#include "tests/numa_vm/guest.h"
#include "tests/support/expect_error.h"
#include "tests/support/refuse_calls.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// The nodes that have processors, by sysfs.
NodeList nodes_with_cpus() { return list_in("/sys/devices/system/node/has_cpu"); }

}  // namespace

TEST_CASE("plain: the topology is that of sysfs") {
  const Guest guest;
  const NodeList online = list_in("/sys/devices/system/node/online");
  REQUIRE(guest.topology.nodes.size() == online.size());
  REQUIRE(online.size() >= 2);
  for (size_t i = 0; i < online.size(); ++i) {
    const MemoryNode& node = guest.topology.nodes[i];
    const std::string folder = "/sys/devices/system/node/node" + std::to_string(online[i]);
    CHECK(node.number == online[i]);
    CHECK(node.cpus == list_in(folder + "/cpulist"));
    CHECK(node.memory_bytes > 64 * kMiB);
    std::ifstream distances(folder + "/distance");
    for (const uint32_t distance : guest.topology.distances.at(i)) {
      uint32_t expected = 0;
      distances >> expected;
      CHECK(distance == expected);
    }
  }
  CHECK(guest.launch.policy == MemoryPolicy::standard);
  CHECK(guest.launch.memory_nodes == online);
}

TEST_CASE("plain: each slice's pages are on its node, in huge pages") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  CHECK(plan.mode == NumaMode::distribute);
  REQUIRE(plan.is_bound);
  REQUIRE(plan.slices.size() == nodes_with_cpus().size());
  NodeArena arena = guest.arena(plan, 12 * kMiB);
  REQUIRE(arena.populate(2));
  const NodeArena::Report report = arena.report();
  CHECK(report.is_verified());
  for (const std::string& notice : report.notices) MESSAGE(notice);
  CHECK(report.notices.empty());
  for (size_t s = 0; s < plan.slices.size(); ++s) {
    CHECK(is_on(arena.slice(s), nodes_with_cpus()[s]));
    CHECK(report.slices[s].is_bound);
    CHECK(report.slices[s].huge_bytes == 12 * kMiB);
  }
}

TEST_CASE("plain: what is bound goes to its node from wherever it is first written") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  NodeArena arena = guest.arena(plan, 4 * kMiB);
  for (size_t s = 0; s < plan.slices.size(); ++s) {
    const size_t other = (s + 1) % plan.slices.size();
    std::thread([&] {
      const ScopedPin pin(plan.slices[other].cores.front());
      std::fill(arena.slice(s).begin(), arena.slice(s).end(), std::byte{1});
    }).join();
    CHECK(is_on(arena.slice(s), plan.slices[s].nodes.front()));
  }
}

TEST_CASE("plain: threads that are pinned as planned run at their slice's node") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  const WorkerPlan workers = plan_workers(plan, std::nullopt);
  CHECK(workers.n_threads() == static_cast<int>(guest.topology.cores.size()));
  CHECK(workers.pins == WorkerPins::slices);
  for (const WorkerSeat& seat : workers.seats) {
    int cpu = -1;
    std::thread([&] {
      const ScopedPin pin(seat.cpus);
      cpu = sched_getcpu();
    }).join();
    CHECK(has_number(seat.cpus, cpu));
    CHECK(node_of_cpu(cpu) == plan.slices[seat.slice].nodes.front());
  }
}

TEST_CASE("plain: isolate keeps to the node that the process runs on") {
  const Guest guest;
  const NodePlan plan = guest.plan(NumaMode::isolate);
  REQUIRE(plan.slices.size() == 1);
  CHECK(plan.slices[0].nodes.front() == node_of_cpu(guest.launch.current_cpu));
}

TEST_CASE("plain: without mbind, pages go to the node of the threads that populate them") {
  with_refused_calls({SYS_mbind}, [] {
    const Guest guest;
    const NodePlan plan = guest.plan();
    NodeArena arena = guest.arena(plan, 4 * kMiB);
    REQUIRE(arena.populate(1));
    const NodeArena::Report report = arena.report();
    REQUIRE(!report.notices.empty());
    CHECK(report.notices[0].find("(mbind: Operation not permitted)") != std::string::npos);
    CHECK(report.is_verified());
    for (size_t s = 0; s < plan.slices.size(); ++s) {
      CHECK_FALSE(arena.is_bound(s));
      CHECK(is_on(arena.slice(s), plan.slices[s].nodes.front()));
    }
  });
}

TEST_CASE("plain: what is not on its node is seen") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  with_refused_calls({SYS_mbind}, [&] {
    NodeArena arena = guest.arena(plan, 4 * kMiB);
    // All by one node's thread.
    const ScopedPin pin(plan.slices[0].cores.front());
    for (size_t s = 0; s < plan.slices.size(); ++s) {
      std::fill(arena.slice(s).begin(), arena.slice(s).end(), std::byte{1});
    }
    const NodeArena::Report report = arena.report();
    CHECK_FALSE(report.is_verified());
    CHECK(report.slices[0].pages.n_elsewhere(0) == 0);
    CHECK(report.slices[1].pages.n_elsewhere(1) == 2);
    CHECK(
        report.notices[1].find("2 of 2 pages that were looked at of the test are not on node 1") !=
        std::string::npos);
  });
}

TEST_CASE("plain: a slice larger than its node is an Error, not a killed process") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  const std::string error = error_of([&] { Guest::arena(plan, 4096 * kMiB); });
  CHECK(error.starts_with("the test on node 0 would take 4.00 GiB, and the node has "));
}

TEST_CASE("plain: memory that another took meanwhile is an Error, not a killed process") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  const int node = plan.slices[1].nodes.front();
  uint64_t available = 0;
  for (const NodeMemory& m : read_node_memory()) {
    if (m.node == node) available = m.available_bytes();
  }
  const uint64_t most = available / 10 * 7;
  NodeArena late({{node, {}, most}}, "the late one");
  NodeArena early({{node, {}, most}}, "the early one");
  REQUIRE(early.populate(2));
  const std::string error = error_of([&] { late.populate(2); });
  CHECK(error.starts_with("node " + std::to_string(node) +
                          " ran out of memory while the late one took theirs: "));
}

TEST_CASE("plain: bandwidth is measured between all nodes") {
  const Guest guest;
  const auto found = measure_node_bandwidth(guest.topology, guest.launch,
                                            {.buffer_bytes = 16 * kMiB, .seconds_of_each = 0.001});
  REQUIRE(found.has_value());
  CHECK(found->is_whole(guest.topology));
  CHECK(found->pairs.size() == nodes_with_cpus().size() * guest.topology.nodes.size());
  CHECK(found->all_local_gb_per_s > 0);
}

TEST_CASE("plain: memory without processors is not used, and said so") {
  const Guest guest;
  const NodeList online = list_in("/sys/devices/system/node/online");
  if (online == nodes_with_cpus()) return;  // the guest with such a node has its own run
  const NodePlan plan = guest.plan();
  REQUIRE(plan.notes.size() == 1);
  CHECK(plan.notes[0].find("no processors are near") != std::string::npos);
  for (const NodeSlice& slice : plan.slices) {
    CHECK(has_number(nodes_with_cpus(), slice.nodes.front()));
  }
}

TEST_CASE("plain: workers of a plan are at their slice's node, and do its rows alone") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  const WorkerPlan seats = plan_workers(plan, std::nullopt);
  Workers workers(seats);
  const ScopedPin pin(seats.seats.front().cpus);
  const std::vector<IndexRange> ranges = slice_rows(plan, 16 * 1000, 16);
  // Threads may come late on a busy host; while one is missing, others do its part.
  int n_present = 0;
  for (int i = 0; i < 2000 && n_present < seats.n_threads(); ++i) {
    workers.run([&](TeamMember& member) {
      if (member.index() == 0) n_present = member.n_members();
    });
  }
  REQUIRE(n_present == seats.n_threads());
  std::atomic<uint64_t> n_rows{0}, n_far{0};
  const std::thread::id caller = std::this_thread::get_id();
  for (int i = 0; i < 20; ++i) {
    workers.parallel_slices(ranges, 16, [&](uint64_t slice, uint64_t begin, uint64_t end) {
      n_rows += end - begin;
      const bool is_near = node_of_cpu(sched_getcpu()) == plan.slices[slice].nodes.front();
      // The caller does the part of a worker that did not begin in time; nobody else does.
      if (!is_near && std::this_thread::get_id() != caller) n_far += end - begin;
    });
  }
  CHECK(n_rows == 20 * 16 * 1000);
  CHECK(n_far == 0);
  workers.run([&](TeamMember& member) {
    const WorkerSeat& seat = seats.seats[static_cast<size_t>(member.index())];
    HYBRID_CHECK(thread_affinity() == seat.cpus);
  });
}
