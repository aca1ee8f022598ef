#include "numa/workers.h"

#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "numa/cpu_set.h"
#include "numa/memory_info.h"

using namespace hybrid;

TEST_CASE("every item is visited once, whatever the threads and the grain") {
  for (const int n_threads : {1, 2, 3, 8}) {
    Workers workers(n_threads);
    for (const uint64_t n : {0ull, 1ull, 7ull, 1000ull}) {
      for (const uint64_t grain : {1ull, 3ull, 64ull, 5000ull}) {
        std::vector<std::atomic<int>> visits(n);
        workers.parallel_for(n, grain, [&](uint64_t begin, uint64_t end) {
          for (uint64_t i = begin; i < end; ++i) ++visits[i];
        });
        for (const auto& v : visits) REQUIRE(v == 1);
      }
    }
  }
}

TEST_CASE("an exception in the work comes out") {
  Workers workers(2);
  CHECK_THROWS_AS(workers.parallel_for(100, 1, [](uint64_t, uint64_t) { throw 1; }), int);
}

TEST_CASE("two teams of different sizes live side by side") {
  Workers small(2), large(8);
  std::atomic<int> n_done{0};
  large.parallel_for(
      100, 1, [&](uint64_t begin, uint64_t end) { n_done += static_cast<int>(end - begin); });
  CHECK(n_done == 100);
}

TEST_CASE("available memory is a plausible number") {
  CHECK(available_memory_bytes() > (1u << 20));
}

TEST_CASE("there is at least one core") { CHECK(n_allowed_cores() >= 1); }
