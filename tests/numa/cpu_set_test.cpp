#include "numa/cpu_set.h"

#include <doctest/doctest.h>

using namespace hybrid;

namespace {

/// Two cores of two processors each, of a machine with n_online processors.
AllowedCpus two_cores_of(int n_online) { return {{{0, 8}, {1, 9}}, n_online}; }

bool pins_any(const PinPlan& plan) {
  for (const CpuList& cpus : plan.cpus) {
    if (!cpus.empty()) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("there is at least one core, and no core without a processor") {
  const AllowedCpus cpus = allowed_cpus();
  REQUIRE(!cpus.cores.empty());
  for (const CpuList& core : cpus.cores) CHECK(!core.empty());
  CHECK(cpus.n_cpus() <= cpus.n_online);
  CHECK(n_allowed_cores() == static_cast<int>(cpus.cores.size()));
  CHECK(usable_cores() >= 1);
  CHECK(usable_cores() <= n_allowed_cores());
}

TEST_CASE("the allowed processors follow the affinity of the thread") {
  const CpuList before = thread_affinity();
  REQUIRE(!before.empty());
  {
    const ScopedPin pin({before.back()});
    CHECK(thread_affinity() == CpuList{before.back()});
  }
  CHECK(thread_affinity() == before);
  { const ScopedPin none({}); }
  CHECK(thread_affinity() == before);
}

TEST_CASE("a quota is rounded up, and leaves one") {
  CHECK(within_quota(8, std::nullopt) == 8);
  CHECK(within_quota(8, 1.5) == 2);
  CHECK(within_quota(8, 2.0) == 2);
  CHECK(within_quota(8, 0.2) == 1);
  CHECK(within_quota(8, 100.0) == 8);
}

TEST_CASE("threads are pinned only to processors that were set aside") {
  CHECK(pins_any(plan_pins(two_cores_of(16), 2)));
  CHECK_FALSE(pins_any(plan_pins(two_cores_of(4), 2)));  // all of the machine: others run there
  CHECK_FALSE(pins_any(plan_pins(two_cores_of(16), 3)));
  CHECK_FALSE(pins_any(plan_pins(two_cores_of(16), 1)));
}

TEST_CASE("each pinned thread has a core of its own, and the caller is free") {
  const PinPlan plan = plan_pins({{{2, 10}, {3, 11}, {5}}, 16}, 3);
  CHECK(plan.cpus == std::vector<CpuList>{{}, {3, 11}, {5}});
  CHECK(plan.text == "all but the first pinned, to processors 3+11, 5");
  CHECK(plan_pins(two_cores_of(16), 3).text == "not pinned: 3 threads on 2 allowed cores");
  CHECK(plan_pins(two_cores_of(4), 2).text ==
        "not pinned: none of the 4 processors is set aside for this process");
}
