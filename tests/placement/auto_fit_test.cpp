// Placements of random models on random machines: budgets hold, rules are obeyed, nothing better
// exists among the forms that are considered, and more room never costs time.

#include "placement/auto_fit.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "placement/step_cost.h"

using namespace hybrid;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

struct Case {
  PlacementModel model;
  std::vector<PlacementDevice> devices;
  FixedPieces fixed;
};

class RandomCase {
 public:
  explicit RandomCase(uint32_t seed) : random_(seed) {}

  Case make(uint32_t max_layers, uint32_t max_accelerators, bool with_rules) {
    c_.model.n_layers = between(1, max_layers);
    c_.model.hidden_bytes = 8192;
    add_unit(UnitKind::embedding, 0, 1, 100);
    const uint64_t experts = between(0, 2000);
    for (uint32_t layer = 0; layer < c_.model.n_layers; ++layer) {
      add_unit(UnitKind::attention, layer, between(1, 3), 60);
      c_.model.pieces.back().cache_bytes = between(0, 50) * kMiB;
      c_.model.pieces.back().cache_row_bytes = c_.model.pieces.back().cache_bytes;
      if (between(0, 5) == 0) {
        add_unit(UnitKind::dense, layer, 3, 100);
        continue;
      }
      add_unit(UnitKind::shared, layer, 3, 30);
      add_unit(UnitKind::routed, layer, 3, experts + between(0, 100), 0.05);
    }
    add_unit(UnitKind::output, c_.model.n_layers, 1, 100);
    add_devices(between(0, max_accelerators));
    c_.fixed.resize(c_.model.pieces.size());
    for (auto& fixed : c_.fixed) {
      if (with_rules && between(0, 4) == 0) fixed = between(0, last_device());
    }
    return c_;
  }

 private:
  uint32_t between(uint32_t least, uint64_t most) {
    return static_cast<uint32_t>(std::uniform_int_distribution<uint64_t>(least, most)(random_));
  }
  uint32_t last_device() const { return static_cast<uint32_t>(c_.devices.size() - 1); }

  void add_unit(UnitKind kind, uint32_t layer, uint32_t n_pieces, uint64_t max_mib,
                double share = 1) {
    for (uint32_t i = 0; i < n_pieces; ++i) {
      PlacementPiece piece;
      piece.tensor = static_cast<uint32_t>(c_.model.pieces.size());
      piece.unit = static_cast<uint32_t>(c_.model.units.size());
      piece.accelerator_bytes = between(0, max_mib) * kMiB;
      piece.panel_bytes = piece.accelerator_bytes;
      piece.cpu_bytes = piece.accelerator_bytes + between(0, 1) * kMiB;
      piece.token_bytes =
          static_cast<uint64_t>(static_cast<double>(piece.accelerator_bytes) * share);
      c_.model.pieces.push_back(piece);
    }
    c_.model.units.push_back({kind, layer});
  }

  void add_devices(uint32_t n_accelerators) {
    c_.devices.push_back({.budget_bytes = between(1, 100000) * kMiB,
                          .fixed_bytes = between(0, 100) * kMiB,
                          .speed = {.read_rate = 1e9 * between(20, 400)}});
    for (uint32_t i = 0; i < n_accelerators; ++i) {
      c_.devices.push_back({.name = {DeviceKind::cuda, i},
                            .budget_bytes = between(100, 4000) * kMiB,
                            .fixed_bytes = between(0, 500) * kMiB,
                            .speed = {.read_rate = 1e9 * between(100, 2000),
                                      .link_rate = 1e9 * between(4, 50),
                                      .hop_seconds = 1e-6 * between(0, 30)}});
    }
  }

  std::mt19937 random_;
  Case c_;
};

FitResult fit(const Case& c) { return fit_placement(c.model, c.devices, c.fixed); }

/// The least time of all placements with these homes: experts in every number that has room, in
/// the order of what they save.
double best_with_homes(const Case& c, const std::vector<uint32_t>& homes) {
  const StepCost cost(c.model, c.devices);
  Placement placement{homes, std::vector<uint32_t>(c.model.pieces.size())};
  for (uint32_t i = 0; i < c.model.pieces.size(); ++i) {
    const PlacementUnit& unit = c.model.units[c.model.pieces[i].unit];
    const bool stays = unit.kind == UnitKind::routed || unit.kind == UnitKind::embedding;
    placement.device_of[i] = stays ? 0 : homes[unit.layer];
  }
  const auto over_budget = [&] {
    const auto loads = device_loads(c.model, c.devices, placement);
    for (uint32_t d = 1; d < loads.size(); ++d) {
      if (loads[d].n_bytes() > c.devices[d].budget_bytes) return true;
    }
    return false;
  };
  if (over_budget()) return INFINITY;
  for (uint32_t d = 1; d < c.devices.size(); ++d) {
    std::vector<std::pair<double, uint32_t>> order;
    for (uint32_t layer = 0; layer < c.model.n_layers; ++layer) {
      if (homes[layer] != d) continue;
      uint64_t n_bytes = 0;
      const auto seconds = [&](uint32_t experts) {
        return cost.layer_seconds(layer, d, [&](uint32_t i) {
          return c.model.units[c.model.pieces[i].unit].kind == UnitKind::routed ? experts : d;
        });
      };
      for (const uint32_t i : cost.pieces_of(layer)) {
        const PlacementPiece& piece = c.model.pieces[i];
        if (c.model.units[piece.unit].kind == UnitKind::routed) n_bytes += piece.accelerator_bytes;
      }
      const double saved = seconds(0) - seconds(d);
      if (saved > 0 && n_bytes > 0) order.push_back({-saved / static_cast<double>(n_bytes), layer});
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [_, layer] : order) {
      const std::vector<uint32_t> before = placement.device_of;
      for (const uint32_t i : cost.pieces_of(layer)) placement.device_of[i] = d;
      if (!over_budget()) continue;
      placement.device_of = before;
      break;
    }
  }
  return cost.step_seconds(placement, {});
}

/// The least time over all homes where accelerators have one run each, in their order.
double best_of_all(const Case& c) {
  double best = INFINITY;
  std::vector<uint32_t> homes(c.model.n_layers + 1);
  const auto is_in_order = [&] {
    uint32_t last = 0;  // the accelerator met last
    for (size_t i = 0; i < homes.size(); ++i) {
      if (homes[i] == 0 || (i > 0 && homes[i] == homes[i - 1])) continue;
      if (homes[i] <= last) return false;
      last = homes[i];
    }
    return true;
  };
  for (bool more = true; more;) {
    if (is_in_order()) best = std::min(best, best_with_homes(c, homes));
    more = false;
    for (uint32_t& home : homes) {
      home = (home + 1) % static_cast<uint32_t>(c.devices.size());
      if ((more = home != 0)) break;
    }
  }
  return best;
}

}  // namespace

TEST_CASE("every piece has one place, rules are obeyed, and no budget is exceeded but by rules") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const Case c = RandomCase(seed).make(8, 4, seed % 2 == 1);
    const FitResult found = fit(c);
    REQUIRE(found.placement.device_of.size() == c.model.pieces.size());
    REQUIRE(found.placement.home.size() == c.model.n_layers + 1);
    Placement by_rules{found.placement.home, std::vector<uint32_t>(c.model.pieces.size(), 0)};
    for (uint32_t i = 0; i < c.fixed.size(); ++i) {
      REQUIRE(found.placement.device_of[i] < c.devices.size());
      if (c.fixed[i]) REQUIRE(found.placement.device_of[i] == *c.fixed[i]);
      by_rules.device_of[i] = c.fixed[i].value_or(0);
    }
    const auto fixed_loads = device_loads(c.model, c.devices, by_rules);
    for (uint32_t d = 1; d < c.devices.size(); ++d) {
      const bool by_rule = fixed_loads[d].n_bytes() > c.devices[d].budget_bytes;
      if (by_rule) {
        CHECK(found.used_bytes[d] == fixed_loads[d].n_bytes());  // and nothing was added
      } else {
        CHECK(found.used_bytes[d] <= c.devices[d].budget_bytes);
      }
    }
    for (const uint32_t d : found.over_budget) {
      CHECK(found.used_bytes[d] > c.devices[d].budget_bytes);
    }
  }
}

TEST_CASE("nothing is faster among runs of layers in the order of accelerators") {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    const Case c = RandomCase(seed).make(4, 2, false);
    CHECK(fit(c).token_seconds == doctest::Approx(best_of_all(c)).epsilon(1e-12));
  }
}

TEST_CASE("the same input gives the same placement") {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const Case c = RandomCase(seed).make(8, 4, true);
    CHECK(fit(c).placement.device_of == fit(c).placement.device_of);
  }
}

TEST_CASE("more room on a device never costs time") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Case c = RandomCase(seed).make(8, 4, seed % 3 == 0);
    double seconds = fit(c).token_seconds;
    for (uint32_t step = 0; step < 6; ++step) {
      PlacementDevice& device = c.devices[step % c.devices.size()];
      device.budget_bytes += device.budget_bytes / 3;
      const double now = fit(c).token_seconds;
      CHECK(now <= seconds * (1 + 1e-12));
      seconds = now;
    }
  }
}

TEST_CASE("attention and shared experts come before routed ones, and these by whole layers") {
  Case c;
  c.model.n_layers = 4;
  c.model.hidden_bytes = 8192;
  const auto add = [&](UnitKind kind, uint32_t layer, uint64_t mib, uint64_t token_mib) {
    c.model.pieces.push_back({.unit = static_cast<uint32_t>(c.model.units.size()),
                              .cpu_bytes = mib * kMiB,
                              .accelerator_bytes = mib * kMiB,
                              .panel_bytes = mib * kMiB,
                              .token_bytes = token_mib * kMiB});
    c.model.units.push_back({kind, layer});
  };
  for (uint32_t layer = 0; layer < 4; ++layer) {
    add(UnitKind::attention, layer, 100, 100);
    add(UnitKind::shared, layer, 50, 50);
    add(UnitKind::routed, layer, 2000, 60);
  }
  add(UnitKind::output, 4, 200, 200);
  c.devices = {{.budget_bytes = 64000 * kMiB, .speed = {.read_rate = 50e9}},
               {.name = {DeviceKind::cuda, 0},
                .budget_bytes = 6000 * kMiB,
                .fixed_bytes = 500 * kMiB,
                .speed = {.read_rate = 1000e9, .link_rate = 25e9, .hop_seconds = 1e-5}}};
  c.fixed.resize(c.model.pieces.size());
  const FitResult found = fit(c);
  // 500 + 4 x 150 + 200 leave 4700: the experts of two layers.
  CHECK(found.used_bytes[1] == (500 + 600 + 200 + 2 * 2000) * kMiB);
  CHECK(found.placement.home == std::vector<uint32_t>(5, 1));
  CHECK(found.fits());
}
