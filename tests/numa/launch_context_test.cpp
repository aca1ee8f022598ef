#include "numa/launch_context.h"

#include <doctest/doctest.h>
#include <numaif.h>

#include "numa/cpu_set.h"

using namespace hybrid;

namespace {

LaunchContext launched(MemoryPolicy policy, NodeList policy_nodes) {
  return {.cpus = {0, 1},
          .policy = policy,
          .policy_nodes = std::move(policy_nodes),
          .memory_nodes = {0, 1}};
}

}  // namespace

TEST_CASE("the lists of /proc/self/status") {
  const StatusLists lists = parse_status(
      "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,7\nMems_allowed:\t3\n"
      "Mems_allowed_list:\t0-1\nvoluntary_ctxt_switches:\t1\n");
  CHECK(lists.cpus == CpuList{0, 1, 2, 3, 7});
  CHECK(lists.nodes == NodeList{0, 1});
  CHECK(parse_status("Name:\tx\n").cpus.empty());
  CHECK(parse_status("x\nMems_allowed_list:\t").nodes.empty());
}

TEST_CASE("this process: its processors, a node with memory") {
  const LaunchContext launch = read_launch_context();
  CHECK(launch.cpus == thread_affinity());
  CHECK(!launch.memory_nodes.empty());
  CHECK(!launch.usable_nodes().empty());
  CHECK(has_number(launch.cpus, launch.current_cpu));
}

TEST_CASE("the policy of memory is read from the kernel") {
  // This thread's only, whose policy read_launch_context() asks for.
  if (read_launch_context().policy != MemoryPolicy::standard) {
    MESSAGE("skipped: the tests were launched with a policy of their own");
    return;
  }
  unsigned long node_0 = 1;
  const auto under = [&](int mode) {
    REQUIRE(set_mempolicy(mode, &node_0, 64) == 0);
    const LaunchContext launch = read_launch_context();
    set_mempolicy(MPOL_DEFAULT, nullptr, 0);
    CHECK(launch.policy_nodes == NodeList{0});
    return launch.policy;
  };
  CHECK(under(MPOL_BIND) == MemoryPolicy::bind);
  CHECK(under(MPOL_INTERLEAVE) == MemoryPolicy::interleave);
  CHECK(under(MPOL_PREFERRED) == MemoryPolicy::preferred);
  CHECK(read_launch_context().policy == MemoryPolicy::standard);
  CHECK(read_launch_context().policy_nodes.empty());
}

TEST_CASE("memory may come from the nodes of cpuset and policy; a preference is none") {
  CHECK(launched(MemoryPolicy::standard, {}).usable_nodes() == NodeList{0, 1});
  CHECK(launched(MemoryPolicy::bind, {1, 2}).usable_nodes() == NodeList{1});
  CHECK(launched(MemoryPolicy::interleave, {0, 1}).usable_nodes() == NodeList{0, 1});
  CHECK(launched(MemoryPolicy::preferred, {1}).usable_nodes() == NodeList{0, 1});
}

TEST_CASE("what was asked at launch, in words") {
  LaunchContext launch = launched(MemoryPolicy::bind, {0});
  CHECK(launch_text(launch, {0, 1, 2, 3}) ==
        "memory bound to node 0 (numactl -m), processors 0-1 of 0-3");
  launch = launched(MemoryPolicy::standard, {});
  CHECK(launch_text(launch, {0, 1}) == "all processors, memory where it is first touched");
  launch.cpu_quota = 1.5;
  CHECK(launch_text(launch, {0, 1}) ==
        "all processors, memory where it is first touched, paid for 1.5 of them (cpu.max)");
  CHECK(policy_text(launched(MemoryPolicy::interleave, {0, 1})) ==
        "memory interleaved over nodes 0-1 (numactl --interleave)");
}
