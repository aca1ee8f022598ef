#include "numa/workers.h"

#include <doctest/doctest.h>
#include <time.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "numa/cpu_set.h"
#include "numa/memory_info.h"
#include "numa/split_range.h"
#include "numa/worker_plan.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using std::chrono::milliseconds;

namespace {

double process_cpu_ms() {
  timespec time;
  REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

/// Long enough for every member to fall asleep; where it is not, less is tested.
void let_members_sleep() { std::this_thread::sleep_for(milliseconds(20)); }

/// Runs one region and checks that each item was visited.
void check_region(Workers& workers, uint64_t n) {
  std::atomic<uint64_t> sum{0};
  workers.parallel_ranges(n, 1, [&](uint64_t begin, uint64_t end, int) {
    for (uint64_t i = begin; i < end; ++i) sum.fetch_add(i + 1, std::memory_order_relaxed);
  });
  REQUIRE(sum == n * (n + 1) / 2);
}

}  // namespace

TEST_CASE("every item is visited once, whatever the threads and the grain") {
  for (const int n_threads : {1, 2, 3, 8}) {
    Workers workers(n_threads);
    for (const uint64_t n : {0ull, 1ull, 7ull, 1000ull}) {
      for (const uint64_t grain : {0ull, 1ull, 3ull, 64ull, 5000ull}) {
        std::vector<std::atomic<int>> visits(n);
        workers.parallel_for(n, grain, [&](uint64_t begin, uint64_t end) {
          for (uint64_t i = begin; i < end; ++i) ++visits[i];
        });
        for (const auto& v : visits) REQUIRE(v == 1);
      }
    }
  }
}

TEST_CASE("every item of a share is visited once, in whole pieces") {
  for (const int n_threads : {1, 2, 3, 8}) {
    Workers workers(n_threads);
    for (const uint64_t n : {0ull, 1ull, 7ull, 1000ull}) {
      for (const uint64_t grain : {1ull, 3ull, 64ull, 5000ull}) {
        std::vector<std::atomic<int>> visits(n);
        std::atomic<int> n_odd{0};
        workers.parallel_shares(n, grain, [&](uint64_t begin, uint64_t end) {
          if (begin % grain != 0 || (end % grain != 0 && end != n)) ++n_odd;
          for (uint64_t i = begin; i < end; ++i) ++visits[i];
        });
        for (const auto& v : visits) REQUIRE(v == 1);
        CHECK(n_odd == 0);
      }
    }
  }
}

TEST_CASE("members that are done take the rest of a slower one's share") {
  Workers workers(2);
  std::atomic<int> n_left{100};  // the one with the first item waits until all others are done
  workers.parallel_shares(100, 1, [&](uint64_t begin, uint64_t end) {
    if (begin > 0) {
      n_left -= static_cast<int>(end - begin);
      return;
    }
    n_left -= static_cast<int>(end);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (n_left > 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  CHECK(n_left == 0);
}

TEST_CASE("each index has its own range, always the same") {
  for (const int n_threads : {1, 2, 3, 5, 8}) {
    Workers workers(n_threads);
    CHECK(workers.n_threads() == n_threads);
    const auto n_parts = static_cast<size_t>(n_threads);
    for (const uint64_t n : {0, 1, 7, 1000}) {
      for (const uint64_t multiple : {1, 16, 64}) {
        for (int repetition = 0; repetition < 2; ++repetition) {
          std::vector<IndexRange> ranges(n_parts);
          std::vector<std::atomic<int>> n_calls(n_parts);
          workers.parallel_ranges(n, multiple, [&](uint64_t begin, uint64_t end, int index) {
            ranges[static_cast<size_t>(index)] = {begin, end};
            ++n_calls[static_cast<size_t>(index)];
          });
          for (size_t i = 0; i < n_parts; ++i) {
            const IndexRange expected = split_range(n, multiple, i, n_parts);
            REQUIRE(n_calls[i] == (expected.is_empty() ? 0 : 1));
            if (!expected.is_empty()) REQUIRE(ranges[i] == expected);
          }
        }
      }
    }
  }
}

TEST_CASE("ten thousand short regions") {
  for (const int n_threads : {2, 3}) {
    Workers workers(n_threads);
    std::vector<uint64_t> counts(static_cast<size_t>(n_threads));
    for (int i = 0; i < 10000; ++i) {
      workers.parallel_ranges(64, 1, [&](uint64_t begin, uint64_t end, int index) {
        counts[static_cast<size_t>(index)] += end - begin;
      });
    }
    uint64_t total = 0;
    for (const uint64_t count : counts) total += count;
    CHECK(total == 640000);
  }
}

TEST_CASE("all threads come, sooner or later") {
  for (const int n_threads : {2, 3, 8}) {
    Workers workers(n_threads);
    int n_members = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (n_members < n_threads && std::chrono::steady_clock::now() < deadline) {
      workers.run([&](TeamMember& member) {
        if (member.index() == 0) n_members = member.n_members();
      });
    }
    CHECK(n_members == n_threads);
    CHECK(workers.placement().find("came") == std::string::npos);
  }
}

TEST_CASE("run calls the body once on each member, at the same time") {
  for (const int n_threads : {1, 2, 5}) {
    Workers workers(n_threads);
    std::vector<std::atomic<int>> n_calls(static_cast<size_t>(n_threads));
    std::atomic<int> n_inside{0}, n_members{0};
    workers.run([&](TeamMember& member) {
      ++n_calls[static_cast<size_t>(member.index())];
      ++n_inside;
      n_members = member.n_members();
      while (n_inside < member.n_members()) std::this_thread::yield();
    });
    CHECK(n_inside == n_members);
    for (int i = 0; i < n_members; ++i) CHECK(n_calls[static_cast<size_t>(i)] == 1);
  }
}

TEST_CASE("after a barrier the others' writes are there") {
  for (const int n_threads : {1, 2, 3, 5}) {
    Workers workers(n_threads);
    std::vector<int> phase_of(static_cast<size_t>(n_threads));
    std::atomic<int> n_wrong{0};
    workers.run([&](TeamMember& member) {
      for (int phase = 1; phase <= 200; ++phase) {
        phase_of[static_cast<size_t>(member.index())] = phase;
        member.barrier();
        for (int i = 0; i < member.n_members(); ++i) {
          if (phase_of[static_cast<size_t>(i)] != phase) ++n_wrong;
        }
        member.barrier();
      }
    });
    CHECK(n_wrong == 0);
  }
}

TEST_CASE("phases of one region split like regions of their own") {
  for (const int n_threads : {1, 2, 3}) {
    Workers workers(n_threads);
    std::vector<int> a(1000), b(1000);
    workers.run([&](TeamMember& member) {
      member.ranges(a.size(), 16, [&](uint64_t begin, uint64_t end, int) {
        for (uint64_t i = begin; i < end; ++i) a[i] = static_cast<int>(i);
      });
      member.barrier();
      member.ranges(b.size(), 1, [&](uint64_t begin, uint64_t end, int) {
        for (uint64_t i = begin; i < end; ++i) b[i] = a[999 - i];
      });
    });
    for (size_t i = 0; i < 1000; ++i) REQUIRE(b[i] == 999 - static_cast<int>(i));
  }
}

TEST_CASE("an exception in the work comes out, and the team stays good") {
  for (const int n_threads : {1, 2, 3}) {
    Workers workers(n_threads);
    for (int i = 0; i < 10; ++i) {
      CHECK_THROWS_AS(workers.parallel_for(100, 1, [](uint64_t, uint64_t) { throw 1; }), int);
      CHECK_THROWS_AS(workers.parallel_ranges(100, 1,
                                              [&](uint64_t, uint64_t, int index) {
                                                if (index == n_threads - 1) fail("of the last");
                                              }),
                      Error);
      check_region(workers, 100);
    }
  }
}

TEST_CASE("an exception comes out after all members are done") {
  Workers workers(3);
  std::atomic<int> n_done{0}, n_members{0};
  CHECK_THROWS_AS(workers.run([&](TeamMember& member) {
    n_members = member.n_members();
    if (member.index() == 0) throw 1;
    std::this_thread::sleep_for(milliseconds(2));
    ++n_done;
  }),
                  int);
  CHECK(n_done == n_members - 1);
}

TEST_CASE("an exception of one frees the others from the barrier") {
  for (const int n_threads : {2, 3, 5}) {
    Workers workers(n_threads);
    for (int thrower = 0; thrower < n_threads; ++thrower) {
      std::atomic<bool> has_thrown{false};
      try {
        workers.run([&](TeamMember& member) {
          member.barrier();
          if (member.index() == std::min(thrower, member.n_members() - 1)) {
            has_thrown = true;
            throw std::runtime_error("at phase 2");
          }
          member.barrier();
        });
      } catch (const std::runtime_error& error) {
        CHECK(std::string(error.what()) == "at phase 2");
      }
      CHECK(has_thrown);
      workers.run([](TeamMember& member) { member.barrier(); });
    }
  }
}

TEST_CASE("nesting is refused, also in another team and with one thread") {
  for (const int n_threads : {1, 2}) {
    Workers outer(n_threads), other(2), single(1);
    for (Workers* inner : {&outer, &other, &single}) {
      const auto nest = [&](const auto& call) {
        return test::error_of([&] { outer.run([&](TeamMember&) { call(); }); });
      };
      const auto pair = [](uint64_t, uint64_t) {};
      CHECK(nest([&] { inner->parallel_for(0, 1, pair); }).find("is_nested") != std::string::npos);
      CHECK(nest([&] { inner->run([](TeamMember&) {}); }).find("is_nested") != std::string::npos);
    }
    check_region(outer, 100);
    check_region(other, 100);
  }
}

TEST_CASE("two teams take turns, and sizes may differ") {
  Workers small(2), large(8);
  for (int i = 0; i < 200; ++i) {
    check_region(small, 50);
    check_region(large, 50);
  }
}

TEST_CASE("a sleeping team wakes, and an idle one costs nothing") {
  Workers workers(3);
  check_region(workers, 100);
  let_members_sleep();
  for (int i = 0; i < 20; ++i) {
    check_region(workers, 100);
    std::this_thread::sleep_for(std::chrono::microseconds(300 * i));  // in each state of a wait
  }
  const double before_ms = process_cpu_ms();
  std::this_thread::sleep_for(milliseconds(200));
  CHECK(process_cpu_ms() - before_ms < 50);
}

TEST_CASE("a team may end in every state") {
  { Workers never_formed(4); }
  for (int i = 0; i < 50; ++i) {
    Workers workers(3);
    check_region(workers, 10);
  }
  Workers workers(3);
  check_region(workers, 10);
  let_members_sleep();
}

TEST_CASE("several threads may use a team one after the other") {
  Workers workers(3);
  check_region(workers, 100);
  for (int i = 0; i < 5; ++i) {
    std::thread([&] { check_region(workers, 100); }).join();
    check_region(workers, 100);
  }
}

TEST_CASE("two threads at once are refused, and the first is not disturbed") {
  Workers workers(2);
  std::string message;
  std::atomic<int> n_bodies{0}, n_members{0};
  workers.run([&](TeamMember& member) {
    ++n_bodies;
    n_members = member.n_members();
    if (member.index() != 0) return;
    std::thread([&] {
      message = test::error_of([&] { workers.run([&](TeamMember&) { n_bodies += 100; }); });
    }).join();
  });
  CHECK(message.find("another_thread") != std::string::npos);
  CHECK(n_bodies == n_members);
  check_region(workers, 100);
}

TEST_CASE("the placement is told") {
  CHECK(Workers(1).placement() == "not pinned: one thread");
  Workers many(500);
  CHECK(many.placement().find("pinned") != std::string::npos);
}

TEST_CASE("available memory is a plausible number") {
  CHECK(available_memory_bytes() > (1u << 20));
}

namespace {

/// Workers of slices, two of slice 0, one of slice 1, ..., that may run anywhere.
WorkerPlan unpinned_plan(const std::vector<uint32_t>& slices) {
  WorkerPlan plan;
  for (const uint32_t slice : slices) plan.seats.push_back({.slice = slice});
  plan.pin_text = "not pinned: a test";
  return plan;
}

}  // namespace

TEST_CASE("every item of every slice is visited once, with its slice, in whole pieces") {
  const std::vector<std::vector<uint32_t>> plans{{0}, {0, 0, 1}, {0, 1, 2}, {0, 0, 2, 2}, {3, 3}};
  const std::vector<std::vector<IndexRange>> all_ranges{
      {{0, 700}, {700, 701}, {701, 1000}}, {{0, 0}, {0, 0}, {0, 1000}}, {{0, 1000}}, {{5, 5}}};
  for (const auto& slices : plans) {
    Workers workers(unpinned_plan(slices));
    CHECK(workers.n_threads() == static_cast<int>(slices.size()));
    for (const auto& ranges : all_ranges) {
      for (const uint64_t grain : {1ull, 16ull, 300ull, 5000ull}) {
        std::vector<std::atomic<int>> visits(1000);
        workers.parallel_slices(ranges, grain, [&](uint64_t slice, uint64_t begin, uint64_t end) {
          const IndexRange& range = ranges[slice];
          const bool is_whole = (begin - range.begin) % grain == 0 &&
                                ((end - range.begin) % grain == 0 || end == range.end);
          if (begin < range.begin || end > range.end || begin >= end || !is_whole) return;
          for (uint64_t i = begin; i < end; ++i) ++visits[i];
        });
        const uint64_t first = ranges.front().begin, last = ranges.back().end;
        for (uint64_t i = first; i < last; ++i) REQUIRE(visits[i] == 1);
      }
    }
  }
}

TEST_CASE("without a plan the workers of parallel_slices share out everything") {
  Workers workers(3);
  const std::vector<IndexRange> ranges{{0, 10}, {10, 400}};
  std::atomic<uint64_t> n{0};
  workers.parallel_slices(ranges, 4,
                          [&](uint64_t, uint64_t begin, uint64_t end) { n += end - begin; });
  CHECK(n == 400);
  CHECK_THROWS_AS(
      workers.parallel_slices(ranges, 4,
                              [](uint64_t, uint64_t, uint64_t) { throw std::runtime_error("x"); }),
      std::runtime_error);
  check_region(workers, 100);
}

TEST_CASE("workers of a plan say how they were placed") {
  Workers workers(unpinned_plan({0, 1}));
  check_region(workers, 100);
  CHECK(workers.placement().starts_with("not pinned: a test"));
}

TEST_CASE("pieces of slices are counted by whose worker did them") {
  NodePlan plan;
  plan.slices = {{.nodes = {0}, .cores = {{0}, {1}}, .n_default = 1},
                 {.nodes = {1}, .cores = {{0}, {1}}, .n_default = 1}};
  const IndexRange ranges[] = {{0, 40}, {100, 140}};
  const auto counts_of = [&](int n_threads) {
    Workers workers(plan_workers(plan, n_threads));
    std::atomic<uint64_t> n_items{0};
    for (int i = 0; i < 10; ++i) {
      workers.parallel_slices(
          ranges, 1, [&](uint64_t, uint64_t begin, uint64_t end) { n_items += end - begin; });
    }
    CHECK(n_items == 800);
    return workers.slice_counts();
  };
  const Workers::SliceCounts two = counts_of(2);
  CHECK(two.n_near >= 10);
  CHECK(two.n_near + two.n_far <= 800);
  CHECK(counts_of(1).n_near == 0);  // one thread does it all and counts nothing
}

TEST_CASE("the caller is at its seat while it is pinned, and only then") {
  const CpuList before = thread_affinity();
  REQUIRE(!before.empty());
  const CpuList one{before.back()};
  NodePlan plan;
  plan.slices = {{.nodes = {0}, .cores = {one}, .n_default = 1},
                 {.nodes = {1}, .cores = {one}, .n_default = 1}};
  for (const int n_threads : {1, 2}) {
    Workers workers(plan_workers(plan, n_threads));
    {
      const ScopedPin pin = workers.pin_caller();
      CHECK(thread_affinity() == one);
    }
    CHECK(thread_affinity() == before);
  }
  plan.slices.pop_back();  // nothing to keep to
  Workers alone(plan_workers(plan, 1));
  const ScopedPin pin = alone.pin_caller();
  CHECK(thread_affinity() == before);
}
