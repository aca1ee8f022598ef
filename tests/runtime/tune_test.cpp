// The search of `tune`, with speeds and a clock that are made up.

#include "runtime/tune.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace hybrid;

namespace {

/// Candidates of known speed on a machine whose own speed changes from sample to sample.
struct Machine {
  std::vector<double> tps;
  double tokens = 10;
  double clock = 100;
  size_t n_samples = 0;
  std::vector<double> drift = {1};
  size_t stop_at = ~size_t{0};

  std::optional<TuneSearch> search(size_t usual, const TuneEffort& effort) {
    return find_fastest(
        tps.size(), usual, effort,
        [&](size_t i) -> std::optional<double> {
          if (n_samples == stop_at) return std::nullopt;
          const double sample = tps[i] * drift[n_samples++ % drift.size()];
          clock += tokens / sample;
          return sample;
        },
        [&] { return clock; });
  }
};

}  // namespace

TEST_CASE("the fastest is chosen, and slow ones are measured once") {
  Machine machine{{10, 20, 30, 5}};
  const auto search = machine.search(0, {.seconds = 1000, .n_rounds = 5});
  REQUIRE(search);
  CHECK(search->chosen == 2);
  CHECK(search->candidates[2].tps.size() == 5);
  CHECK(search->candidates[0].tps.size() == 5);  // what the others are compared with
  CHECK(search->candidates[1].tps.size() == 1);
  CHECK(search->candidates[3].tps.size() == 1);
}

TEST_CASE("the usual one stays where no other is faster by the least gain") {
  Machine machine{{30, 30.5, 29}};
  CHECK(machine.search(0, {.seconds = 1000})->chosen == 0);
  CHECK(machine.search(2, {.seconds = 1000})->chosen == 1);
  CHECK(machine.search(0, {.seconds = 1000, .least_gain = 0.01})->chosen == 1);
}

TEST_CASE("a machine that slows down does not choose by who was first") {
  // Each sample finds the machine slower than the one before; candidates are within 20 %.
  Machine machine{{20, 22, 18}};
  machine.drift.clear();
  for (int i = 0; i < 64; ++i) machine.drift.push_back(1 - i * 0.004);
  CHECK(machine.search(2, {.seconds = 1000, .n_rounds = 9})->chosen == 1);
}

TEST_CASE("one lucky sample is no reason") {
  Machine machine{{10, 10}};
  machine.drift = {1, 3, 1, 1, 1, 1};
  // The first round: 10 and 30. Then they are alike.
  CHECK(machine.search(0, {.seconds = 1000, .n_rounds = 3})->chosen == 0);
  Machine hasty{{10, 10}};
  hasty.drift = {1, 3};
  CHECK(hasty.search(0, {.seconds = 1.2, .n_rounds = 5})->chosen == 0);
}

TEST_CASE("the time is kept") {
  Machine machine{{10, 9.5, 9.2, 9, 8.9}};  // about a second each
  const double start = machine.clock;
  const auto search = machine.search(0, {.seconds = 12, .n_rounds = 50});
  CHECK(machine.clock - start <= 12);
  CHECK(search->candidates[0].tps.size() == 2);
  // A first round that is too long ends half-way: the usual one, and those there was time for.
  Machine slow{{1, 1, 1, 1, 1, 1}};  // ten seconds each
  const auto some = slow.search(3, {.seconds = 40, .n_rounds = 50});
  CHECK(some->candidates[3].tps.size() >= 1);
  CHECK(std::ranges::count_if(some->candidates, [](const auto& c) { return c.tps.empty(); }) == 3);
  CHECK(some->chosen == 3);
}

TEST_CASE("a search that the user ends has no result") {
  Machine machine{{10, 20}};
  machine.stop_at = 3;
  CHECK_FALSE(machine.search(0, {.seconds = 1000}));
}

TEST_CASE("a single candidate is measured and chosen") {
  Machine machine{{10}};
  const auto search = machine.search(0, {.seconds = 1000});
  CHECK(search->chosen == 0);
  CHECK(search->candidates[0].typical() == 10);
}

TEST_CASE("numbers of threads: halves, three quarters, whole nodes, siblings") {
  CHECK(thread_candidates(1, 1, 1) == std::vector{1});
  CHECK(thread_candidates(2, 2, 1) == std::vector{2, 1});
  CHECK(thread_candidates(2, 4, 1) == std::vector{4, 2, 1});
  CHECK(thread_candidates(16, 16, 1) == std::vector{16, 12, 8, 6, 4, 3, 2, 1});
  CHECK(thread_candidates(12, 24, 3) == std::vector{24, 12, 9, 8, 6, 4, 3, 2, 1});
  for (const int n : thread_candidates(128, 256, 6)) CHECK((n >= 1 && n <= 256));
}
