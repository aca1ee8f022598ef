#include "placement/auto_fit.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "placement/step_cost.h"

namespace hybrid {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

uint64_t bytes_on(const PlacementPiece& piece, const PlacementDevice& device) {
  const bool is_accelerator = device.name.is_accelerator();
  return piece.cache_bytes + (is_accelerator ? piece.accelerator_bytes : piece.cpu_bytes);
}

/// A layer whose home is an accelerator, as far as rules leave it free.
struct LayerChoice {
  uint64_t base_bytes = 0;    // all but the routed experts
  uint64_t routed_bytes = 0;  // of these
  double base_seconds = 0;    // the experts on the CPU
  double all_seconds = 0;     // the experts there, too
};

/// Layers [first, end) with one home.
struct Run {
  double seconds = kNever;
  std::vector<uint32_t> with_experts = {};  // the layers whose experts have room there
};

class Fitter {
 public:
  Fitter(const PlacementModel& model, const std::vector<PlacementDevice>& devices,
         const FixedPieces& fixed)
      : model_(model), devices_(devices), fixed_(fixed), cost_(model, devices) {
    HYBRID_CHECK(fixed.size() == model.pieces.size() && !devices.empty());
    for (uint32_t d = 0; d < devices.size(); ++d) {
      if (devices[d].name.is_accelerator()) accelerators_.push_back(d);
    }
    used_.resize(devices.size());
    is_used_.resize(devices.size());
    for (uint32_t i = 0; i < fixed.size(); ++i) {
      if (!fixed[i]) continue;
      used_[*fixed[i]] += bytes_on(model.pieces[i], devices[*fixed[i]]);
      is_used_[*fixed[i]] = true;
    }
    for (uint32_t d = 0; d < devices.size(); ++d) {
      if (is_used_[d] || d == 0) used_[d] += devices[d].fixed_bytes;
    }
  }

  Placement best() {
    search();
    Placement placement{std::vector<uint32_t>(n_layers(), 0),
                        std::vector<uint32_t>(model_.pieces.size(), 0)};
    for (uint32_t i = 0; i < fixed_.size(); ++i) placement.device_of[i] = fixed_[i].value_or(0);
    for (State at = last_; at.layer > 0;) {
      const Step& step = step_to(at);
      if (step.accelerator >= 0) put_run(step, at.layer, placement);
      at = step.from;
    }
    return placement;
  }

 private:
  /// Layers before `layer` are placed on accelerators before `next`.
  struct State {
    uint32_t layer = 0, next = 0;
    bool is_home_cpu = true;  // of the layer before; else accelerator next - 1
  };
  struct Step {
    double seconds = kNever;
    State from = {};
    int accelerator = -1;  // the home of layers [from.layer, ...); -1: the CPU
  };

  uint32_t n_layers() const { return model_.n_layers + 1; }  // with the output
  uint32_t n_accelerators() const { return static_cast<uint32_t>(accelerators_.size()); }
  Step& step_to(State s) {
    return steps_[(uint64_t{s.layer} * (n_accelerators() + 1) + s.next) * 2 + s.is_home_cpu];
  }
  uint32_t home_of(State s) const { return s.is_home_cpu ? 0 : accelerators_[s.next - 1]; }

  double layer_seconds(uint32_t layer, uint32_t home, uint32_t experts) const {
    return cost_.layer_seconds(layer, home, [&](uint32_t piece) {
      if (fixed_[piece]) return *fixed_[piece];
      return unit_of(piece).kind == UnitKind::routed ? experts : home;
    });
  }
  const PlacementUnit& unit_of(uint32_t piece) const {
    return model_.units[model_.pieces[piece].unit];
  }

  LayerChoice choice(uint32_t layer, uint32_t device) const {
    LayerChoice c;
    for (const uint32_t i : cost_.pieces_of(layer)) {
      if (fixed_[i]) continue;
      const uint64_t n = bytes_on(model_.pieces[i], devices_[device]);
      (unit_of(i).kind == UnitKind::routed ? c.routed_bytes : c.base_bytes) += n;
    }
    c.base_seconds = layer_seconds(layer, device, 0);
    c.all_seconds = layer_seconds(layer, device, device);
    return c;
  }

  /// Experts go layer by layer, those first that save the most time for their bytes, up to the
  /// first one that has no room: so more room never means a worse choice.
  Run make_run(uint32_t accelerator, uint32_t first, uint32_t end) const {
    const uint32_t device = accelerators_[accelerator];
    const auto& choices = choices_[accelerator];
    uint64_t needed = 0;
    Run run{.seconds = 0};
    std::vector<uint32_t> order;
    for (uint32_t layer = first; layer < end; ++layer) {
      const LayerChoice& c = choices[layer];
      needed += c.base_bytes;
      run.seconds += c.base_seconds;
      if (c.routed_bytes > 0 && c.all_seconds < c.base_seconds) order.push_back(layer);
    }
    if (!is_used_[device] && (needed > 0 || !order.empty())) needed += devices_[device].fixed_bytes;
    const uint64_t budget = devices_[device].budget_bytes;
    if (needed > 0 && used_[device] + needed > budget) return {};
    const auto saved = [&](uint32_t layer) {
      const LayerChoice& c = choices[layer];
      return (c.base_seconds - c.all_seconds) / static_cast<double>(c.routed_bytes);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return saved(a) > saved(b); });
    for (const uint32_t layer : order) {
      needed += choices[layer].routed_bytes;
      if (used_[device] + needed > budget) break;
      run.seconds -= choices[layer].base_seconds - choices[layer].all_seconds;
      run.with_experts.push_back(layer);
    }
    return run;
  }

  void improve(State to, const Step& step) {
    if (step.seconds < step_to(to).seconds) step_to(to) = step;
  }

  /// All steps from one state: a layer on the CPU, or a run on an accelerator not used yet.
  void go_on(State from) {
    const double before = step_to(from).seconds;
    if (before == kNever) return;
    const uint32_t at = home_of(from);
    improve({from.layer + 1, from.next, true},
            {before + cost_.hop_seconds(at, 0) + cpu_seconds_[from.layer], from, -1});
    for (uint32_t a = from.next; a < n_accelerators(); ++a) {
      const double hop = cost_.hop_seconds(at, accelerators_[a]);
      for (uint32_t end = from.layer + 1; end <= n_layers(); ++end) {
        const double seconds = run_seconds_[(a * n_layers() + from.layer) * n_layers() + end - 1];
        if (seconds == kNever) break;  // longer runs have no room, either
        improve({end, a + 1, false}, {before + hop + seconds, from, static_cast<int>(a)});
      }
    }
  }

  void prepare() {
    for (uint32_t layer = 0; layer < n_layers(); ++layer) {
      cpu_seconds_.push_back(layer_seconds(layer, 0, 0));
    }
    choices_.resize(n_accelerators());
    run_seconds_.assign(uint64_t{n_accelerators()} * n_layers() * n_layers(), kNever);
    for (uint32_t a = 0; a < n_accelerators(); ++a) {
      for (uint32_t layer = 0; layer < n_layers(); ++layer) {
        choices_[a].push_back(choice(layer, accelerators_[a]));
      }
      for (uint32_t first = 0; first < n_layers(); ++first) {
        for (uint32_t end = first + 1; end <= n_layers(); ++end) {
          const double seconds = make_run(a, first, end).seconds;
          run_seconds_[(a * n_layers() + first) * n_layers() + end - 1] = seconds;
          if (seconds == kNever) break;
        }
      }
    }
  }

  void search() {
    prepare();
    steps_.assign(uint64_t{n_layers() + 1} * (n_accelerators() + 1) * 2, {});
    step_to({}) = {.seconds = 0};
    for (uint32_t layer = 0; layer < n_layers(); ++layer) {
      for (uint32_t next = 0; next <= n_accelerators(); ++next) {
        go_on({layer, next, true});
        if (next > 0) go_on({layer, next, false});
      }
    }
    double least = kNever;
    for (uint32_t next = 0; next <= n_accelerators(); ++next) {
      for (const bool is_home_cpu : {true, false}) {
        if (next == 0 && !is_home_cpu) continue;
        const State s{n_layers(), next, is_home_cpu};
        const double seconds = step_to(s).seconds + cost_.hop_seconds(home_of(s), 0);
        if (seconds < least) least = seconds, last_ = s;
      }
    }
  }

  void put_run(const Step& step, uint32_t end, Placement& placement) const {
    const auto a = static_cast<uint32_t>(step.accelerator);
    const Run run = make_run(a, step.from.layer, end);
    std::vector<bool> with_experts(n_layers());
    for (const uint32_t layer : run.with_experts) with_experts[layer] = true;
    for (uint32_t layer = step.from.layer; layer < end; ++layer) {
      placement.home[layer] = accelerators_[a];
      for (const uint32_t i : cost_.pieces_of(layer)) {
        const bool goes = unit_of(i).kind != UnitKind::routed || with_experts[layer];
        if (!fixed_[i] && goes) placement.device_of[i] = accelerators_[a];
      }
    }
  }

  const PlacementModel& model_;
  const std::vector<PlacementDevice>& devices_;
  const FixedPieces& fixed_;
  StepCost cost_;
  std::vector<uint32_t> accelerators_;             // indices of devices
  std::vector<uint64_t> used_;                     // [devices]: by rules
  std::vector<bool> is_used_;                      // [devices]: by rules
  std::vector<double> cpu_seconds_;                // [n_layers()]
  std::vector<std::vector<LayerChoice>> choices_;  // [accelerator][n_layers()]
  std::vector<double> run_seconds_;                // [accelerator][first][end - 1]
  std::vector<Step> steps_;                        // [layer][next][is_home_cpu]
  State last_;
};

}  // namespace

std::vector<DeviceLoad> device_loads(const PlacementModel& model,
                                     const std::vector<PlacementDevice>& devices,
                                     const Placement& placement) {
  std::vector<DeviceLoad> loads(devices.size());
  std::vector<bool> is_used(devices.size());
  is_used[0] = true;
  for (uint32_t i = 0; i < model.pieces.size(); ++i) {
    const uint32_t d = placement.device_of[i];
    const uint64_t cache = model.pieces[i].cache_bytes;
    loads[d].weight_bytes += bytes_on(model.pieces[i], devices[d]) - cache;
    loads[d].cache_bytes += cache;
    is_used[d] = true;
  }
  for (uint32_t d = 0; d < devices.size(); ++d) {
    if (is_used[d]) loads[d].fixed_bytes = devices[d].fixed_bytes;
  }
  return loads;
}

FitResult fit_placement(const PlacementModel& model, const std::vector<PlacementDevice>& devices,
                        const FixedPieces& fixed) {
  FitResult result;
  result.placement = Fitter(model, devices, fixed).best();
  result.token_seconds = StepCost(model, devices).step_seconds(result.placement, {});
  for (const DeviceLoad& load : device_loads(model, devices, result.placement)) {
    result.used_bytes.push_back(load.n_bytes());
  }
  for (uint32_t d = 0; d < devices.size(); ++d) {
    if (result.used_bytes[d] > devices[d].budget_bytes) result.over_budget.push_back(d);
  }
  return result;
}

}  // namespace hybrid
