// Node-bound memory on a machine of any number of nodes; tests/numa_vm has the cases that need
// several.

#include "numa/node_arena.h"

#include <doctest/doctest.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>

#include "numa/cpu_set.h"
#include "numa/huge_pages.h"
#include "tests/support/expect_error.h"
#include "tests/support/refuse_calls.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30;

NodeMemory with_free(int node, uint64_t free_bytes) {
  return {.node = node, .total_bytes = 64 * kGiB, .free_bytes = free_bytes};
}

int first_node() { return read_node_memory().front().node; }

bool has_notice(const NodeArena::Report& report, const std::string& text) {
  return std::any_of(report.notices.begin(), report.notices.end(), [&](const std::string& notice) {
    return notice.find(text) != std::string::npos;
  });
}

/// No notice but of small pages: a busy machine may have no huge ones left.
bool is_quiet(const NodeArena::Report& report) {
  return report.notices.empty() || (report.notices.size() == 1 && has_notice(report, "huge pages"));
}

}  // namespace

TEST_CASE("shares that fit their nodes pass; what does not fit is told with all figures") {
  const std::vector<NodeMemory> memory{with_free(0, 33 * kGiB), with_free(1, 11 * kGiB)};
  const std::vector<NodeShare> fits{{0, {}, 32 * kGiB}, {1, {}, 10 * kGiB}, {-1, {}, 500 * kGiB}};
  CHECK(error_of([&] { check_node_space(fits, memory, "the weights"); }) == "");
  const std::vector<NodeShare> too_large{{0, {}, 1}, {1, {}, 6 * kGiB}, {1, {}, 5 * kGiB}};
  CHECK(error_of([&] { check_node_space(too_large, memory, "the weights"); }) ==
        "the weights on node 1 would take 11.00 GiB, and the node has 10.00 GiB left of its 64.00 "
        "GiB (page cache counted as free); put less on the CPU, free memory on that node, or use "
        "--numa off, which takes memory of any node");
}

TEST_CASE("a slice larger than its node is refused before a page is taken") {
  const uint64_t before = read_node_memory().front().free_bytes;
  const std::string error = error_of([&] {
    NodeArena arena({{first_node(), {}, uint64_t{1} << 45}}, "the weights");
  });
  CHECK(error.find("would take 32768.00 GiB") != std::string::npos);
  const uint64_t after = read_node_memory().front().free_bytes;
  CHECK(after + 2 * kGiB > before);
}

TEST_CASE("memory is bound, populated and verified, in huge pages where there are some") {
  NodeArena arena(
      {{first_node(), thread_affinity(), 10 * kMiB + 3}, {first_node(), {}, 0}, {-1, {}, 5 * kMiB}},
      "the test");
  REQUIRE(arena.n_slices() == 3);
  CHECK(arena.n_bytes() == 15 * kMiB + 3);
  CHECK(arena.is_bound(0));
  CHECK_FALSE(arena.is_bound(2));
  NodeArena::Report report = arena.report();
  CHECK(report.slices[0].pages.n_untouched == 6);
  REQUIRE(arena.populate(2));
  report = arena.report();
  CHECK(is_quiet(report));
  CHECK(report.is_verified());
  CHECK(report.slices[0].pages.n_on_node == std::map<int, uint64_t>{{first_node(), 6}});
  CHECK(report.slices[0].pages.n_untouched == 0);
  CHECK(report.slices[2].pages.n_untouched == 0);
  if (has_notice(report, "huge pages")) {
    MESSAGE(report.notices[0]);
  } else {
    CHECK(report.slices[0].huge_bytes >= 8 * kMiB);
  }
  for (size_t i = 0; i < 3; ++i) {
    std::fill(arena.slice(i).begin(), arena.slice(i).end(), std::byte{7});
  }
  REQUIRE(arena.populate(1));  // leaves what was written
  CHECK(arena.slice(0).back() == std::byte{7});
}

TEST_CASE("populating can be stopped") {
  NodeArena arena({{first_node(), {}, 4 * kMiB}}, "the test");
  const std::atomic<bool> stop{true};
  CHECK_FALSE(arena.populate(2, &stop));
  CHECK(arena.report().slices[0].pages.n_untouched == 2);
}

TEST_CASE("a kernel that refuses mbind is survived and told, once, with the remedy") {
  with_refused_calls({SYS_mbind}, [] {
    NodeArena arena({{first_node(), {}, 4 * kMiB}, {first_node(), {}, 4 * kMiB}}, "the test");
    CHECK_FALSE(arena.is_bound(0));
    REQUIRE(arena.populate(1));
    const NodeArena::Report report = arena.report();
    REQUIRE(!report.notices.empty());
    CHECK(report.notices[0] ==
          "the kernel refuses to bind memory to nodes (mbind: Operation not permitted), as "
          "containers do; start the container with --cap-add SYS_NICE");
    CHECK_FALSE((report.notices.size() > 1 && report.notices[1] == report.notices[0]));
    CHECK(report.slices[0].pages.n_untouched == 0);
    arena.slice(1).back() = std::byte{1};
  });
}

TEST_CASE("a kernel that does not tell where pages are: not verified, and said so") {
  with_refused_calls({SYS_mbind, SYS_move_pages}, [] {
    NodeArena arena({{first_node(), {}, 4 * kMiB}}, "the test");
    REQUIRE(arena.populate(1));
    const NodeArena::Report report = arena.report();
    CHECK_FALSE(report.is_verified());
    CHECK(has_notice(report, "was not verified"));
  });
}

TEST_CASE("a node that is not there is refused by the kernel, and told") {
  NodeArena arena({{1023, {}, 4 * kMiB}}, "the test");
  CHECK_FALSE(arena.is_bound(0));
  CHECK(
      has_notice(arena.report(), "memory cannot be bound to node 1023 (mbind: Invalid argument)"));
}

TEST_CASE("small pages work, and are said with the remedy") {
  REQUIRE(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  NodeArena arena({{first_node(), {}, 32 * kMiB}}, "the test");
  const bool is_done = arena.populate(2);
  const NodeArena::Report report = arena.report();
  const HugePageState state = read_huge_page_state();
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
  REQUIRE(is_done);
  CHECK(report.is_verified());
  CHECK(report.slices[0].huge_bytes == 0);
  CHECK(has_notice(report, "0 B of 32.0 MiB lie in huge pages"));
  CHECK(state.is_off_for_process);
  CHECK_FALSE(state.can_be_had());
}

TEST_CASE("the state of huge pages, and why there are none") {
  const TempDir dir;
  CHECK(read_huge_page_state(dir.path()).why_not() == "this kernel has no transparent huge pages");
  dir.write("hpage_pmd_size", "2097152\n");
  dir.write("enabled", "always madvise [never]\n");
  dir.write("defrag", "always defer defer+madvise [madvise] never\n");
  HugePageState state = read_huge_page_state(dir.path());
  CHECK(state.mode == "never");
  CHECK(state.defrag == "madvise");
  CHECK(state.page_bytes == 2 * kMiB);
  CHECK(state.why_not().find("echo madvise") != std::string::npos);
  dir.write("enabled", "always [madvise] never\n");
  CHECK(read_huge_page_state(dir.path()).can_be_had());
  CHECK(read_huge_page_state(dir.path()).why_not() == "");
  CHECK(chosen_word("no choice") == "");
}

TEST_CASE("shares follow a plan; what is not bound has no node") {
  NodePlan plan;
  plan.is_bound = true;
  plan.slices = {{.nodes = {0}, .cores = {{0, 4}, {1, 5}}}, {.nodes = {2}, .cores = {{2, 6}}}};
  const std::vector<uint64_t> n_bytes{10, 20};
  std::vector<NodeShare> shares = node_shares(plan, n_bytes);
  CHECK(shares[0].cpus == CpuList{0, 1, 4, 5});
  CHECK(shares[1].node == 2);
  CHECK(shares[1].n_bytes == 20);
  plan.is_bound = false;
  shares = node_shares(plan, n_bytes);
  CHECK(shares[1].node == -1);
  CHECK(shares[1].cpus.empty());
}
