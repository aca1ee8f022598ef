// What several nodes read, by arithmetic: as published of two sockets, and at the edges.

#include "placement/node_rates.h"

#include <doctest/doctest.h>

using namespace hybrid;

TEST_CASE("two sockets of 555 GB/s, 248 from the other") {
  const std::vector<double> local{555e9, 555e9};
  const NodeRates all = node_rates(local, 248e9, NumaMode::distribute);
  CHECK(all.read_rate == 1110e9);
  CHECK(all.meet_seconds == kNodeMeetSeconds);
  CHECK(node_rates(local, 248e9, NumaMode::isolate).read_rate == 555e9);
  CHECK(node_rates(local, 248e9, NumaMode::isolate).meet_seconds == 0);
  // Each node reads half of its rows here and half there: 2 / (0.5 / 555 + 0.5 / 248).
  CHECK(node_rates(local, 248e9, NumaMode::off).read_rate ==
        doctest::Approx(685.6e9).epsilon(1e-3));
}

TEST_CASE("the slowest node decides where all read from all") {
  const NodeRates r = node_rates({100e9, 50e9}, 25e9, NumaMode::off);
  CHECK(r.read_rate == doctest::Approx(2 / (0.5 / 50e9 + 0.5 / 25e9)));
  CHECK(node_rates({100e9, 50e9}, 25e9, NumaMode::distribute).read_rate == 150e9);
}

TEST_CASE("one node is one node in every mode") {
  for (const NumaMode mode : {NumaMode::distribute, NumaMode::isolate, NumaMode::off}) {
    const NodeRates r = node_rates({80e9}, 1e9, mode);
    CHECK(r.read_rate == doctest::Approx(80e9));
    CHECK(r.meet_seconds == 0);
  }
}
