#include "numa/bandwidth.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace hybrid;

TEST_CASE("the buffer is 1 GiB, less where memory is short, never less than 64 MiB") {
  constexpr uint64_t kGiB = 1ull << 30, kMiB = 1ull << 20;
  CHECK(bandwidth_buffer_bytes(std::numeric_limits<uint64_t>::max()) == kGiB);
  CHECK(bandwidth_buffer_bytes(4 * kGiB) == kGiB);
  CHECK(bandwidth_buffer_bytes(2 * kGiB) == kGiB / 2);
  CHECK(bandwidth_buffer_bytes(1000000004) == 250000000);  // whole words
  CHECK(bandwidth_buffer_bytes(256 * kMiB - 1) == 64 * kMiB);
  CHECK(bandwidth_buffer_bytes(0) == 64 * kMiB);
}

TEST_CASE("a measurement reads every word with any number of workers") {
  for (const int n_threads : {1, 3}) {
    Workers workers(n_threads);
    // Each pass checks the sum of what it read. Sizes that tasks and sums do not divide:
    for (const uint64_t n_bytes : {8ull, 24ull, (8ull << 20) + 104, 64ull << 20}) {
      CAPTURE(n_bytes);
      const ReadBandwidth found = measure_read_bandwidth(workers, n_bytes);
      CHECK(found.gb_per_s > 0);
      CHECK(std::isfinite(found.gb_per_s));
      CHECK(found.buffer_bytes == n_bytes);
      CHECK(found.n_passes >= 3);
      CHECK(found.n_passes <= 16);
    }
  }
}
