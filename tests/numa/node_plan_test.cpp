// Plans of slices and workers. Of whole machines they are golden files in tests/numa/golden:
//   HYBRID_WRITE_GOLDEN=1 build/release/test_numa -tc='golden*'
// writes them anew; read the difference before it is committed.

#include "numa/node_plan.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <stdlib.h>

#include <fstream>
#include <iterator>

#include "base/text.h"
#include "numa/worker_plan.h"
#include "tests/support/expect_error.h"
#include "tests/support/machines.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

CpuList cpus(const char* text) { return *parse_number_list(text); }

/// Nothing asked for: all processors, all memory.
LaunchContext plain_launch(const Topology& t) {
  LaunchContext launch{.cpus = t.cpus, .current_cpu = t.cpus.front()};
  for (const MemoryNode& node : t.nodes) launch.memory_nodes.push_back(node.number);
  return launch;
}

LaunchContext with_policy(LaunchContext launch, MemoryPolicy policy, NodeList nodes) {
  launch.policy = policy;
  launch.policy_nodes = std::move(nodes);
  return launch;
}

LaunchContext with_cpus(LaunchContext launch, CpuList list) {
  launch.cpus = std::move(list);
  launch.current_cpu = launch.cpus.front();
  return launch;
}

std::string cuts_text(const NodePlan& plan, uint64_t n_rows, uint64_t phase) {
  std::string text = fmt::format("  {} rows, phase {}:", n_rows, phase);
  for (const IndexRange& range : slice_rows(plan, n_rows, 16, phase)) {
    text += fmt::format(" {}-{}", range.begin, range.end);
  }
  return text + "\n";
}

struct Scenario {
  std::string title;
  LaunchContext launch;
  NumaMode mode;
  std::optional<int> n_threads = {};
  std::vector<double> rates = {};
};

std::string plan_text(const Topology& t, const Scenario& s) {
  std::string text = "== " + s.title + "\n";
  try {
    const NodePlan plan = plan_nodes(t, s.launch, s.mode, s.rates);
    text += node_plan_text(plan, plan_workers(plan, s.n_threads));
    if (plan.slices.size() > 1) {
      // The nets of V2-Lite and V3, and a matrix that ends within a panel.
      for (const uint64_t n_rows : {1408, 2048, 7168, 100}) text += cuts_text(plan, n_rows, 0);
      text += cuts_text(plan, 1408, 1);
    }
  } catch (const Error& error) {
    text += std::string("  error: ") + error.what() + "\n";
  }
  return text;
}

void check_golden(const std::string& name, const Topology& t,
                  const std::vector<Scenario>& scenarios) {
  std::string text;
  for (const Scenario& s : scenarios) text += plan_text(t, s);
  const std::string path = HYBRID_TEST_SOURCE_DIR "/tests/numa/golden/" + name + ".txt";
  if (getenv("HYBRID_WRITE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    MESSAGE("written: " << path);
    return;
  }
  std::ifstream file(path);
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  CHECK(text == expected);
}

}  // namespace

TEST_CASE("golden: two Xeon 6980P, six nodes of 43, 43 and 42 cores") {
  const Topology t = two_xeon_6980p();
  const LaunchContext plain = plain_launch(t);
  check_golden(
      "xeon-6980p-2x-snc3", t,
      {{"no options", plain, NumaMode::automatic},
       {"-t 86", plain, NumaMode::automatic, 86},
       {"-t 512", plain, NumaMode::automatic, 512},
       {"-t 600", plain, NumaMode::automatic, 600},
       {"-t 4", plain, NumaMode::automatic, 4},
       {"measured: the second socket's memory at 80 %",
        plain,
        NumaMode::automatic,
        {},
        {92, 93, 94, 74, 75, 75}},
       {"--numa isolate", plain, NumaMode::isolate},
       {"--numa off", plain, NumaMode::off},
       {"numactl -N 0-2 -m 0-2",
        with_policy(with_cpus(plain, cpus("0-127,256-383")), MemoryPolicy::bind, {0, 1, 2}),
        NumaMode::automatic},
       {"numactl --interleave=all",
        with_policy(plain, MemoryPolicy::interleave, {0, 1, 2, 3, 4, 5}), NumaMode::automatic}});
}

TEST_CASE("golden: two EPYC 9355, eight nodes of two CCDs") {
  const Topology t = two_epyc_9355();
  const LaunchContext plain = plain_launch(t);
  LaunchContext half_paid = plain;
  half_paid.cpu_quota = 31.5;
  LaunchContext on_20 = plain;
  on_20.current_cpu = 20;
  check_golden("epyc-9355-2x-nps4", t,
               {{"no options", plain, NumaMode::automatic},
                {"-t 24", plain, NumaMode::automatic, 24},
                {"taskset: 12 cores of three nodes", with_cpus(plain, cpus("0-3,8-11,16-19")),
                 NumaMode::automatic},
                {"numactl -m 1, all processors", with_policy(plain, MemoryPolicy::bind, {1}),
                 NumaMode::automatic},
                {"cpu.max 31.5", half_paid, NumaMode::automatic},
                {"--numa isolate on processor 20", on_20, NumaMode::isolate, 4}});
}

TEST_CASE("golden: one node") {
  const Topology threadripper = threadripper_7970x();
  check_golden("threadripper-7970x", threadripper,
               {{"no options", plain_launch(threadripper), NumaMode::automatic},
                {"--numa distribute -t 8", plain_launch(threadripper), NumaMode::distribute, 8},
                {"taskset 0-3,8-11", with_cpus(plain_launch(threadripper), cpus("0-3,8-11")),
                 NumaMode::automatic}});
  const Topology ryzen = ryzen_7950x();
  check_golden("ryzen-7950x", ryzen,
               {{"no options", plain_launch(ryzen), NumaMode::automatic},
                {"-t 32", plain_launch(ryzen), NumaMode::automatic, 32},
                {"-t 40", plain_launch(ryzen), NumaMode::automatic, 40}});
  const Topology laptop = laptop_with_e_cores();
  check_golden("laptop-6p-8e", laptop,
               {{"no options", plain_launch(laptop), NumaMode::automatic},
                {"-t 14", plain_launch(laptop), NumaMode::automatic, 14},
                {"taskset: efficiency cores alone", with_cpus(plain_launch(laptop), cpus("12-19")),
                 NumaMode::automatic}});
}

TEST_CASE("golden: memory that is not like the others") {
  const Topology hbm = two_sockets_with_hbm();
  const LaunchContext plain = plain_launch(hbm);
  check_golden(
      "two-sockets-hbm", hbm,
      {{"no options", plain, NumaMode::automatic},
       {"--numa distribute", plain, NumaMode::distribute},
       {"numactl -m 1,3", with_policy(plain, MemoryPolicy::bind, {1, 3}), NumaMode::automatic}});
  const Topology cxl = two_nodes_and_cxl();
  check_golden("two-nodes-cxl", cxl,
               {{"no options", plain_launch(cxl), NumaMode::automatic},
                {"numactl -m 2", with_policy(plain_launch(cxl), MemoryPolicy::bind, {2}),
                 NumaMode::automatic},
                {"numactl -m 1", with_policy(plain_launch(cxl), MemoryPolicy::bind, {1}),
                 NumaMode::automatic},
                {"numactl -N 0", with_cpus(plain_launch(cxl), cpus("0-3")), NumaMode::automatic}});
}

TEST_CASE(
    "the threads of every plan: as many as said, each on its slice's processors, none twice") {
  for (const Topology& t : {two_xeon_6980p(), two_epyc_9355(), laptop_with_e_cores(),
                            two_sockets_with_hbm(), two_nodes_and_cxl()}) {
    LaunchContext launch = plain_launch(t);
    for (const bool set_aside : {false, true}) {
      if (set_aside) launch.cpus.pop_back();
      const NodePlan plan = plan_nodes(t, launch, NumaMode::automatic);
      const auto n_cpus = static_cast<int>(launch.cpus.size());
      size_t n_cores = 0;
      for (const NodeSlice& slice : plan.slices) n_cores += slice.cores.size();
      for (int n = 1; n <= n_cpus + 3; n = n < 70 ? n + 1 : n * 2) {
        const WorkerPlan workers = plan_workers(plan, n);
        CAPTURE(n);
        REQUIRE(workers.n_threads() == std::min(n, n_cpus));
        CHECK(workers.notes.empty() == (n <= n_cpus && n >= static_cast<int>(plan.slices.size())));
        std::vector<int> taken;
        uint64_t most = 0, fewest = UINT64_MAX;
        for (uint32_t s = 0; s < plan.slices.size(); ++s) {
          const IndexRange own = workers.workers_of(s);
          most = std::max(most, own.end - own.begin);
          fewest = std::min(fewest, own.end - own.begin);
          REQUIRE(workers.servers[s] < workers.seats.size());
          for (uint64_t w = own.begin; w < own.end; ++w) {
            REQUIRE(workers.seats[w].slice == s);
            for (const int cpu : workers.seats[w].cpus) {
              CHECK(has_number(launch.cpus, cpu));
              taken.push_back(cpu);
            }
          }
        }
        CHECK(most - fewest <= 2);  // the slices have cores enough, but for one or two
        const bool has_pins = set_aside && workers.seats.size() <= n_cores;
        CHECK((workers.pins == WorkerPins::cores) ==
              (has_pins && (n > 1 || plan.slices.size() > 1)));
        std::sort(taken.begin(), taken.end());
        const bool are_cores =
            set_aside && !workers.seats[0].cpus.empty() && workers.pin_text.starts_with("each");
        if (are_cores) CHECK(std::adjacent_find(taken.begin(), taken.end()) == taken.end());
      }
    }
  }
}

TEST_CASE("rows: whole panels, all of them, by weight; the phases even out") {
  NodePlan plan;
  for (const uint32_t weight : {20, 20, 17}) plan.slices.push_back({.weight = weight});
  for (const uint64_t n_rows : {0, 1, 15, 16, 17, 100, 1408, 7168, 129280}) {
    std::vector<uint64_t> panels(3);
    for (uint64_t phase = 0; phase < 57; ++phase) {
      const auto ranges = slice_rows(plan, n_rows, 16, phase);
      REQUIRE(ranges.size() == 3);
      uint64_t at = 0;
      for (size_t i = 0; i < 3; ++i) {
        CHECK(ranges[i].begin == at);
        CHECK(ranges[i].begin <= ranges[i].end);
        at = ranges[i].end;
        if (at != n_rows) CHECK(at % 16 == 0);
        panels[i] += (ranges[i].end + 15) / 16 - (ranges[i].begin + 15) / 16;
      }
      CHECK(at == n_rows);
    }
    const uint64_t n_panels = (n_rows + 15) / 16;  // 57 phases: exactly the weights
    CHECK(panels == std::vector<uint64_t>{n_panels * 20, n_panels * 20, n_panels * 17});
  }
}

TEST_CASE("a few phases are even, too: no slice is ahead by more than a panel") {
  NodePlan plan;
  plan.slices.resize(6);
  std::vector<uint64_t> panels(6);
  for (uint64_t phase = 0; phase < 8; ++phase) {  // the experts of a token
    const auto ranges = slice_rows(plan, 1408, 16, phase);
    for (size_t i = 0; i < 6; ++i) panels[i] += (ranges[i].end - ranges[i].begin) / 16;
  }
  for (const uint64_t n : panels) {
    CHECK(n >= 8 * 88 / 6);
    CHECK(n <= 8 * 88 / 6 + 2);
  }
}

TEST_CASE("what the launch asked for and --numa contradicts is an Error that names both") {
  const Topology t = two_nodes_and_cxl();
  const LaunchContext plain = plain_launch(t);
  const auto error = [&](const LaunchContext& launch, NumaMode mode) {
    return error_of([&] { plan_nodes(t, launch, mode); });
  };
  const LaunchContext bound = with_policy(with_cpus(plain, cpus("0-3")), MemoryPolicy::bind, {0});
  CHECK(error(bound, NumaMode::distribute) ==
        "--numa distribute uses all nodes, but the process was launched without node 1: memory "
        "bound to node 0 (numactl -m), processors 0-3 of 0-7; leave --numa out to use what it was "
        "given, or launch it without numactl or taskset");
  CHECK(error(plain, NumaMode::numactl) ==
        "--numa numactl: the process was launched with all processors and no memory policy; launch "
        "it through numactl, or leave --numa out to use all nodes");
  const LaunchContext interleaved = with_policy(plain, MemoryPolicy::interleave, {0, 1});
  CHECK(error(interleaved, NumaMode::distribute) ==
        "--numa distribute binds weights to nodes, but the process was launched with memory "
        "interleaved over nodes 0-1 (numactl --interleave); leave one of them out");
  CHECK(error(with_policy(plain, MemoryPolicy::bind, {1}), NumaMode::isolate) ==
        "--numa isolate: the process runs on processor 0, whose node's memory it may not use "
        "(memory bound to node 1 (numactl -m)); launch it with processors of node 1, or leave "
        "--numa out");
  // Processors of all nodes that are left: some of them fewer is no contradiction.
  CHECK(error(with_cpus(plain, cpus("1,2,4")), NumaMode::distribute) == "");
  CHECK(error(bound, NumaMode::isolate) == "");
  CHECK(error(bound, NumaMode::off) == "");
  CHECK(error(with_cpus(plain, {99}), NumaMode::automatic)
            .starts_with("the process may run on processors 99, and the machine is said to have"));
}

TEST_CASE("a cpuset is a wall: what it hides is no node of ours, and no contradiction") {
  Topology t = two_nodes_and_cxl();
  t.cpuset_cpus = cpus("4-7");
  t.cpuset_nodes = {1};
  LaunchContext launch = with_cpus(plain_launch(t), cpus("4-7"));
  launch.memory_nodes = {1};
  for (const NumaMode mode : {NumaMode::automatic, NumaMode::distribute, NumaMode::isolate}) {
    const NodePlan plan = plan_nodes(t, launch, mode);
    REQUIRE(plan.slices.size() == 1);
    CHECK(plan.slices[0].nodes == NodeList{1});
    CHECK(plan.is_bound);
    CHECK(plan.is_set_aside);
    CHECK(plan.mode == (mode == NumaMode::isolate ? mode : NumaMode::distribute));
  }
}
