// What modelled time a run on simulated devices takes, against what a plan predicts.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "placement/lane_model.h"
#include "runtime/devices.h"
#include "runtime/model.h"
#include "runtime/placement_plan.h"
#include "runtime/sequence.h"
#include "tests/support/real_headers.h"
#include "tests/support/split_rules.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// Wide enough that rows of floats count little beside matrices.
TinyModelOptions wide_model() {
  TinyModelOptions options;
  options.dims = {.embd = 256,
                  .heads = 4,
                  .nope = 32,
                  .rope = 16,
                  .v = 32,
                  .lora = 64,
                  .ff = 512,
                  .experts = 8,
                  .used = 2,
                  .expert_ff = 128,
                  .context = 256};
  options.n_layers = 12;
  options.quantised = true;
  return options;
}

struct Speeds {
  double cpu_read = 40e9, cpu_flop = 1e12, device_read = 500e9, device_flop = 20e12;
  double link = 25e9, hop = 0;
};

PlanMachine machine_of(const Speeds& s, int n_devices) {
  PlanMachine machine;
  constexpr uint64_t kBytes = uint64_t{1} << 30;
  machine.devices.push_back({.name = {DeviceKind::cpu},
                             .capacity_bytes = kBytes,
                             .budget_bytes = kBytes,
                             .speed = {.read_rate = s.cpu_read, .flop_rate = s.cpu_flop}});
  for (int i = 0; i < n_devices; ++i) {
    machine.devices.push_back({.name = {DeviceKind::sim, static_cast<uint32_t>(i)},
                               .capacity_bytes = kBytes,
                               .budget_bytes = kBytes,
                               .speed = {.read_rate = s.device_read,
                                         .link_rate = s.link,
                                         .flop_rate = s.device_flop,
                                         .hop_seconds = s.hop}});
  }
  return machine;
}

/// A model at work on such a machine.
class Run {
 public:
  Run(const std::filesystem::path& path, const std::string& rules, const Speeds& speeds,
      uint32_t n_in_flight)
      : model_(path, ExpertGroups::automatic),
        machine_(machine_of(speeds, rules.find("SIM1") != std::string::npos ? 2 : 1)),
        plan_(plan_placement({model_.file(), model_.config(), model_.weights()},
                             settings_of(n_in_flight), parse_split_rules(rules), machine_)) {
    REQUIRE(plan_.not_possible.empty());
    model_.place(plan_.where, open_devices(machine_));
    model_.load_devices(true, false, {}, workers_, nullptr);
    model_.load_packed(workers_, nullptr);
    sequence_ = std::make_unique<Sequence>(model_, 256, plan_.run.settings.execution);
  }

  /// Modelled seconds of so many tokens more.
  double append(uint32_t n) {
    const double before = clock().seconds();
    std::vector<TokenId> tokens(n);
    for (uint32_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>(i % 50);
    std::vector<float> logits(model_.config().n_vocab);
    Sequence::AppendArgs args;
    args.tokens = tokens;
    args.n_logit_rows = 1;
    args.logits = logits.data();
    REQUIRE(sequence_->append(args));
    return clock().seconds() - before;
  }

  LaneTimes predicted_prompt(uint32_t n) const {
    return lanes().prompt(plan_.fit.placement, 0, n, plan_.run.sequence.prompt_cut());
  }
  LaneTimes predicted_token(uint32_t n_past) const {
    return lanes().token(plan_.fit.placement, n_past);
  }

  static constexpr uint32_t kUbatch = 64;

 private:
  static RunSettings settings_of(uint32_t n_in_flight) {
    RunSettings settings;
    settings.n_ctx = 256;
    settings.execution.n_ubatch = kUbatch;
    settings.execution.n_in_flight = n_in_flight;
    settings.prepare_decode = false;
    return settings;
  }
  HostClock& clock() { return *model_.devices().front()->host_clock(); }
  LaneModel lanes() const { return {plan_.input.model, plan_.devices}; }

  Workers workers_{1};
  Model model_;
  PlanMachine machine_;
  PlacementPlan plan_;
  std::unique_ptr<Sequence> sequence_;
};

constexpr const char* kPlacements[] = {
    ".*=SIM0",
    "_exps=CPU,.*=SIM0",
    "_exps=SIM0,.*=CPU",
    "shexp=SIM0,.*=CPU",
    "shexp=CPU,_exps=CPU,.*=SIM0",
    "blk\\.[0-5]\\.=CPU,.*=SIM0",
    "_exps@0-3=SIM0,_exps=CPU,.*=SIM0",
    "_exps=CPU,blk\\.[0-5]\\.=SIM0,.*=SIM1",
};

}  // namespace

TEST_CASE("modelled time of a run is what the lane model says, within 3 %") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model(wide_model()).bytes());
  for (const char* rules : kPlacements) {
    CAPTURE(rules);
    for (const uint32_t n_in_flight : {1u, 2u}) {
      CAPTURE(n_in_flight);
      for (const Speeds& speeds : {Speeds{}, Speeds{.hop = 5e-6}, Speeds{.cpu_flop = 10e12},
                                   Speeds{.device_flop = 0.5e12, .link = 5e9}}) {
        CAPTURE(speeds.cpu_flop);
        CAPTURE(speeds.hop);
        CAPTURE(speeds.link);
        Run run(path, rules, speeds, n_in_flight);
        CHECK(run.append(192) == doctest::Approx(run.predicted_prompt(192).seconds).epsilon(0.03));
        CHECK(run.append(1) == doctest::Approx(run.predicted_token(192).seconds).epsilon(0.03));
      }
    }
  }
}

TEST_CASE("at prefill nine tenths of the shorter lane are hidden") {
  const TempDir dir;
  for (const bool is_r1 : {false, true}) {
    const ModelHeaders model(dir.write("m.gguf", is_r1 ? r1_headers() : lite_headers()),
                             ExpertGroups::automatic);
    RunSettings settings;
    settings.n_ctx = 4096;
    settings.execution.n_in_flight = 2;
    const auto rules = parse_split_rules("_exps=CPU,token_embd=CPU,.*=SIM0");
    int n_host_longer = 0, n_device_longer = 0;
    for (const double cpu_flop : {0.5e12, 2e12, 8e12, 32e12}) {
      for (const double device_flop : {10e12, 50e12, 200e12}) {
        CAPTURE(cpu_flop);
        CAPTURE(device_flop);
        PlanMachine machine =
            machine_of({.cpu_read = 400e9, .cpu_flop = cpu_flop, .device_flop = device_flop}, 1);
        for (PlanDevice& d : machine.devices) d.budget_bytes = d.capacity_bytes = uint64_t{1} << 40;
        const PlacementPlan plan = plan_placement(model, settings, rules, machine);
        REQUIRE(plan.fits());
        const LaneTimes times =
            LaneModel(plan.input.model, plan.devices)
                .prompt(plan.fit.placement, 0, 2048, plan.run.sequence.prompt_cut());
        const double host = times.busy_seconds[0], device = times.busy_seconds[1];
        CHECK(times.hidden_fraction(1) >= 0.9);
        ++(host > device ? n_host_longer : n_device_longer);
      }
    }
    CHECK(n_host_longer > 0);
    CHECK(n_device_longer > 0);
  }
}
