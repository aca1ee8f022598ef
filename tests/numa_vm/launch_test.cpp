// Launched through numactl, or in a control group, in a guest of two nodes with two processors
// each: the name of a case says how.

#include <doctest/doctest.h>

#include "numa/huge_pages.h"
#include "tests/numa_vm/guest.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// The plan has one slice, bound to the node, and memory comes from there.
void check_one_slice(const Guest& guest, const NodePlan& plan, int node) {
  CHECK(plan.is_bound);
  REQUIRE(plan.slices.size() == 1);
  CHECK(plan.slices[0].nodes == NodeList{node});
  NodeArena arena = guest.arena(plan, 4 * kMiB);
  REQUIRE(arena.populate(1));
  CHECK(arena.report().is_verified());
  CHECK(is_on(arena.slice(0), node));
}

std::string distribute_error(const Guest& guest) {
  return error_of([&] { guest.plan(NumaMode::distribute); });
}

}  // namespace

TEST_CASE("-N 0 -m 0: this node alone, and distribute contradicts it") {
  const Guest guest;
  CHECK(guest.launch.policy == MemoryPolicy::bind);
  CHECK(guest.launch.policy_nodes == NodeList{0});
  CHECK(guest.launch.cpus == CpuList{0, 1});
  CHECK(guest.launch.memory_nodes == NodeList{0, 1});  // which alone would tell nothing
  const NodePlan plan = guest.plan();
  CHECK(plan.mode == NumaMode::numactl);
  check_one_slice(guest, plan, 0);
  CHECK(plan_workers(plan, std::nullopt).pins == WorkerPins::cores);
  CHECK(
      distribute_error(guest).find("launched without node 1: memory bound to node 0 (numactl -m), "
                                   "processors 0-1 of 0-3") != std::string::npos);
}

TEST_CASE("--interleave=all: pages go round, nothing is bound") {
  const Guest guest;
  CHECK(guest.launch.policy == MemoryPolicy::interleave);
  const NodePlan plan = guest.plan();
  CHECK(plan.mode == NumaMode::numactl);
  CHECK_FALSE(plan.is_bound);
  REQUIRE(plan.slices.size() == 1);
  NodeArena arena = guest.arena(plan, 32 * kMiB);
  REQUIRE(arena.populate(2));
  const auto pages = pages_by_node(arena.slice(0));
  REQUIRE(pages.size() == 2);
  CHECK(pages.at(0) == pages.at(1));
  CHECK(distribute_error(guest).find("memory interleaved over nodes 0-1") != std::string::npos);
}

TEST_CASE("--preferred=1: a wish, slices are bound to their nodes") {
  const Guest guest;
  CHECK(guest.launch.policy == MemoryPolicy::preferred);
  CHECK(guest.launch.policy_nodes == NodeList{1});
  const NodePlan plan = guest.plan();
  CHECK(plan.mode == NumaMode::distribute);
  REQUIRE(plan.slices.size() == 2);
  NodeArena arena = guest.arena(plan, 4 * kMiB);
  REQUIRE(arena.populate(1));
  CHECK(is_on(arena.slice(0), 0));
  CHECK(is_on(arena.slice(1), 1));
}

TEST_CASE("-N 1: the kernel's numbers, not those of a machine that begins there") {
  const Guest guest;
  CHECK(guest.launch.policy == MemoryPolicy::standard);
  CHECK(guest.launch.cpus == CpuList{2, 3});
  const NodePlan plan = guest.plan();
  CHECK(plan.mode == NumaMode::numactl);
  check_one_slice(guest, plan, 1);
  REQUIRE(plan.notes.size() == 1);
  CHECK(plan.notes[0].find("node 0 with ") == 0);
}

TEST_CASE("--physcpubind of a core each: both nodes are used") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  REQUIRE(plan.slices.size() == 2);
  CHECK(plan.slices[0].cores == std::vector<CpuList>{{1}});
  CHECK(plan.slices[1].cores == std::vector<CpuList>{{2}});
  const WorkerPlan workers = plan_workers(plan, std::nullopt);
  CHECK(workers.pins == WorkerPins::cores);
  CHECK(workers.seats == std::vector<WorkerSeat>{{0, {1}}, {1, {2}}});
  CHECK(distribute_error(guest) == "");  // both nodes are there
}

TEST_CASE("-m 1: memory of the other node, too, for cores that have none of their own") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  check_one_slice(guest, plan, 1);
  CHECK(plan.slices[0].cores.size() == 4);
  CHECK(plan.notes[0] == "processors 0-1 may not use the memory at them and read that of node 1");
}

TEST_CASE("-m 2: memory without processors, where it is asked for") {
  const Guest guest;
  const NodePlan plan = guest.plan();
  check_one_slice(guest, plan, 2);
  CHECK(plan.slices[0].cores.size() == 2);
}

TEST_CASE("cpuset 2-3 with memory 1: a wall, the other node is not ours") {
  const Guest guest;
  CHECK(guest.launch.memory_nodes == NodeList{1});
  CHECK(guest.launch.cpus == CpuList{2, 3});
  CHECK(guest.topology.nodes.size() == 2);
  CHECK(guest.topology.cpuset_nodes == NodeList{1});
  for (const NumaMode mode : {NumaMode::automatic, NumaMode::distribute}) {
    check_one_slice(guest, guest.plan(mode), 1);
  }
  // What the plan never asks for: the kernel refuses, and that is survived.
  NodeArena arena({{0, {}, 4 * kMiB}}, "the test");
  CHECK_FALSE(arena.is_bound(0));
  REQUIRE(arena.populate(1));
  const NodeArena::Report report = arena.report();
  CHECK(report.notices[0].find("memory cannot be bound to node 0 (mbind: Invalid argument)") == 0);
  CHECK_FALSE(report.is_verified());
}

TEST_CASE("cpuset 0 with memory 0-1: one core, the other node's memory is left") {
  const Guest guest;
  CHECK(guest.launch.memory_nodes == NodeList{0, 1});
  const NodePlan plan = guest.plan();
  check_one_slice(guest, plan, 0);
  CHECK(plan_workers(plan, std::nullopt).n_threads() == 1);
  CHECK(plan.notes[0].find("node 1 with ") == 0);
}

TEST_CASE("cpu.max 1.5: two threads, for two nodes") {
  const Guest guest;
  CHECK(guest.launch.cpu_quota == 1.5);
  const NodePlan plan = guest.plan();
  CHECK(plan.slices.size() == 2);
  const WorkerPlan workers = plan_workers(plan, 4);
  CHECK(workers.n_threads() == 2);
  CHECK(workers.notes ==
        std::vector<std::string>{"-t 4: cpu.max pays for 1.5 processors, so 2 threads work"});
}

TEST_CASE("huge pages never: small ones on the right nodes, and said so") {
  const Guest guest;
  CHECK(read_huge_page_state().mode == "never");
  const NodePlan plan = guest.plan();
  NodeArena arena = guest.arena(plan, 8 * kMiB);
  REQUIRE(arena.populate(2));
  const NodeArena::Report report = arena.report();
  CHECK(report.is_verified());
  REQUIRE(report.notices.size() == 1);
  CHECK(report.notices[0].find("0 B of 16.0 MiB lie in huge pages") == 0);
  CHECK(report.notices[0].find("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled") !=
        std::string::npos);
  CHECK(is_on(arena.slice(1), 1));
}
