// The lanes played through in time, against sums that can be done by hand.

#include "placement/lane_model.h"

#include <doctest/doctest.h>

#include <array>
#include <limits>

using namespace hybrid;

namespace {

doctest::Approx approx(double x) { return doctest::Approx(x).epsilon(1e-9); }

/// Layers of attention, a shared expert and routed experts, which take seconds as given on every
/// processor; the output takes none.
struct Machine {
  PlacementModel model;
  std::vector<PlacementDevice> devices;
  Placement placement;

  Machine(uint32_t n_layers, double attention, double shared, double routed,
          std::array<uint32_t, 3> where, double hop = 0) {
    model.n_layers = n_layers;
    model.hidden_bytes = 0;
    devices = {{.name = {DeviceKind::cpu}, .speed = {.read_rate = 1, .link_rate = 1}},
               {.name = {DeviceKind::sim, 0},
                .speed = {.read_rate = 1, .link_rate = 1, .hop_seconds = hop}}};
    const double seconds[] = {attention, shared, routed};
    const UnitKind kinds[] = {UnitKind::attention, UnitKind::shared, UnitKind::routed};
    for (uint32_t layer = 0; layer < n_layers; ++layer) {
      placement.home.push_back(where[0]);
      for (int i = 0; i < 3; ++i) {
        const auto unit = static_cast<uint32_t>(model.units.size());
        model.units.push_back({kinds[i], layer});
        const auto n_bytes = static_cast<uint64_t>(seconds[i]);
        model.pieces.push_back({.unit = unit, .panel_bytes = n_bytes, .token_bytes = n_bytes});
        placement.device_of.push_back(where[static_cast<size_t>(i)]);
      }
    }
    placement.home.push_back(where[0]);
  }

  double token() const { return LaneModel(model, devices).token(placement, 0).seconds; }
  LaneTimes prompt(uint64_t n_batches, uint32_t n_in_flight, uint32_t n_in_pass = 2) const {
    return LaneModel(model, devices).prompt(placement, 0, n_batches, {1, n_in_flight, n_in_pass});
  }
};

}  // namespace

TEST_CASE("on one processor a token takes the sum of its parts") {
  CHECK(Machine(4, 10, 3, 20, {0, 0, 0}).token() == approx(4 * 33));
  CHECK(Machine(4, 10, 3, 20, {1, 1, 1}).token() == approx(4 * 33));
}

TEST_CASE("the shared expert on a device is hidden behind the host's experts") {
  CHECK(Machine(4, 10, 3, 20, {1, 1, 0}).token() == approx(4 * (10 + 20)));
  CHECK(Machine(4, 10, 30, 20, {1, 1, 0}).token() == approx(4 * (10 + 30)));
  // The attention on the host, which then has the shared expert or the routed ones to do, too.
  CHECK(Machine(4, 10, 3, 20, {0, 1, 0}).token() == approx(4 * (10 + 20)));
  CHECK(Machine(4, 10, 3, 20, {0, 0, 1}).token() == approx(4 * (10 + 20)));
}

TEST_CASE("copies take their time on the device's queue") {
  // The embedding's rows; in each layer rows, ids and weights to the host, and its sum back.
  const double there = 3 * 0.5, back = 0.5;
  CHECK(Machine(2, 10, 3, 20, {1, 1, 0}, 0.5).token() ==
        approx(0.5 + 2 * (10 + there + 20 + back)));
  CHECK(Machine(2, 10, 30, 20, {1, 1, 0}, 0.5).token() ==
        approx(0.5 + 2 * (10 + there + 30 + back)));
}

TEST_CASE("two micro-batches: the shorter lane is hidden but for the half layers at the ends") {
  const auto check = [](double attention, double routed, double seconds) {
    const Machine machine(10, attention, 0, routed, {1, 1, 0});
    const LaneTimes one = machine.prompt(2, 1), two = machine.prompt(2, 2);
    CHECK(one.seconds == approx(2 * 10 * (attention + routed)));
    CHECK(one.hidden_fraction(1) == approx(0));
    CHECK(two.seconds == approx(seconds));
    CHECK(two.busy_seconds[0] == approx(20 * routed));
    CHECK(two.busy_seconds[1] == approx(20 * attention));
    CHECK(two.hidden_fraction(1) > 0.9);
  };
  check(10, 20, 20 * 20 + 10);  // the host is the longer one: it waits for the first attention
  check(20, 10, 20 * 20 + 10);  // the device: the last experts come after it
  check(10, 10, 20 * 10 + 10);
}

TEST_CASE("a prompt in several passes is their sum, an odd micro-batch is alone") {
  const Machine machine(3, 10, 1, 20, {1, 1, 0});
  const double pair = machine.prompt(2, 2).seconds, one = machine.prompt(1, 2).seconds;
  CHECK(machine.prompt(5, 2).seconds == approx(2 * pair + one));
  CHECK(one == approx(3 * 30));
}

TEST_CASE("in one pass a micro-batch begins as soon as one is through") {
  const Machine machine(10, 10, 0, 20, {1, 1, 0});
  // The host waits for the first attention, and never again.
  CHECK(machine.prompt(6, 2, 6).seconds == approx(6 * 10 * 20 + 10));
  CHECK(machine.prompt(6, 2, 6).hidden_fraction(1) > 0.97);
  // The last of five is alone, but for its first layer.
  CHECK(machine.prompt(5, 2, 5).seconds == approx(4 * 10 * 20 + 10 * 30));
}

TEST_CASE(
    "experts of a layer on both: they are computed at the same time, and summed on the host") {
  Machine machine(2, 10, 0, 20, {1, 1, 0});
  machine.model.n_used = 4;
  machine.model.hidden_bytes = 2;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const uint32_t routed = layer * 3 + 2;
    machine.model.pieces.push_back(machine.model.pieces[routed]);  // as many on the device
    machine.placement.device_of.push_back(1);
  }
  // The output's rows come to the host and back, too: nothing of it is on the device but its home.
  const double choice = 4 * sizeof(float);  // bytes, at 1 per second
  const double to_host = 2 + 2 * choice, rows = 2 * 4 * 0.5;
  const double layer = 10 + to_host + 20 + rows + 2;
  // The first layer's rows come from the CPU's embedding.
  CHECK(machine.token() == approx(2 + 2 * layer));
}
