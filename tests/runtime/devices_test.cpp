// Models on simulated devices: whatever lies where, the CPU's bits come out; devices hold what the
// plan says, to the byte, and give all of it back.

#include "runtime/devices.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/engine.h"
#include "runtime/sequence_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/simd_levels.h"
#include "tests/support/split_rules.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const std::vector<TokenId> kTokens{0, 74, 103, 110, 110, 113, 34, 89, 17, 200, 66, 5,
                                   9, 8,  7,   60,  50,  40,  30, 20, 10, 1,   2,  3};

struct Setup {
  std::string devices = "none";
  std::string rules = "";
  uint32_t n_ubatch = 512;
  uint64_t budget_bytes = 0;  // of each device; 0: no budget
  uint32_t n_in_flight = 2;
};

EngineOptions options_of(const std::filesystem::path& model, const Setup& setup) {
  EngineOptions options;
  options.model = model;
  options.n_ctx = 64;
  options.execution.n_ubatch = setup.n_ubatch;
  options.execution.n_in_flight = setup.devices == "none" ? 1 : setup.n_in_flight;
  options.pack = options.prepare_decode = simd_level() != SimdLevel::scalar;
  options.placement.devices = parse_devices(setup.devices);
  if (!setup.rules.empty()) options.placement.rules = parse_split_rules(setup.rules);
  for (const DeviceName device : options.placement.devices) {
    if (setup.budget_bytes > 0) options.placement.budgets.push_back({device, setup.budget_bytes});
  }
  return options;
}

struct Pass {
  std::vector<float> prompt, token;  // logits of all tokens of a prompt, and of one more
  ExpertChoice choice;
  bool operator==(const Pass& other) const {
    return prompt == other.prompt && token == other.token && choice.ids == other.choice.ids;
  }
};

Pass pass_of(const Engine& engine, Sequence& sequence, const ExpertChoice* replay = nullptr) {
  const ModelConfig& config = engine.model().config();
  const auto n = static_cast<uint32_t>(kTokens.size());
  Pass pass{std::vector<float>(uint64_t{n} * config.n_vocab), std::vector<float>(config.n_vocab),
            ExpertChoice(config.n_moe_layers(), n, config.moe.n_used)};
  Sequence::AppendArgs args;
  args.tokens = kTokens;
  args.n_logit_rows = n;
  args.logits = pass.prompt.data();
  args.replay = replay;
  args.record = &pass.choice;
  REQUIRE(sequence.append(args));
  const TokenId next = 11;
  Sequence::AppendArgs one;
  one.tokens = std::span(&next, 1);
  one.n_logit_rows = 1;
  one.logits = pass.token.data();
  REQUIRE(sequence.append(one));
  return pass;
}

Pass pass_of(const std::filesystem::path& model, const Setup& setup) {
  const Engine engine(options_of(model, setup));
  Sequence sequence = engine.make_sequence();
  return pass_of(engine, sequence);
}

const Setup kPlacements[] = {
    {"sim", ".*=SIM0"},
    {"sim", "_exps=CPU,.*=SIM0"},
    {"sim", "_exps=SIM0,.*=CPU"},
    {"sim", "shexp=SIM0,.*=CPU"},
    {"sim", "ffn_(gate|up|down)\\.=SIM0,.*=CPU"},
    {"sim", "shexp=CPU,.*=SIM0"},
    {"sim", "token_embd=SIM0,^output=SIM0,.*=CPU"},
    {"sim", "blk\\.1\\.=CPU,.*=SIM0"},
    {"sim", "blk\\.2\\..*_exps=SIM0,_exps=CPU,.*=SIM0"},
    {"sim:0,sim:1", "blk\\.[02]\\.=SIM0,.*=SIM1"},
    {"sim:0,sim:1", "_exps=SIM1,.*=SIM0"},
    {"sim:0,sim:1", "shexp=SIM1,_exps=CPU,.*=SIM0"},
    {"sim", "_exps@0-3=SIM0,_exps=CPU,.*=SIM0"},
    {"sim", "_exps@2-5=SIM0,.*=CPU"},
    {"sim", "blk\\.1\\..*_exps@7-7=SIM0,.*=CPU"},
    {"sim", "blk\\.2\\..*_exps@0-4=CPU,.*=SIM0"},
    {"sim", "_exps@0-3=SIM0,.*=SIM0"},
    {"sim:0,sim:1", "_exps@0-2=SIM0,_exps@3-5=SIM1,_exps=CPU,.*=SIM0"},
    {"sim:0,sim:1", "_exps@0-3=SIM1,shexp=SIM1,.*=SIM0"},
    {"sim:0,sim:1", "blk\\.0\\.=CPU,blk\\.1\\..*_exps=SIM0,.*_exps=CPU,blk\\.1\\.=SIM1,.*=SIM0"},
};

}  // namespace

TEST_CASE("a model on devices gives the CPU's bits, whatever lies where") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const TempDir dir;
  // Steps of one micro-batch, and steps of four, of which so many are in flight.
  struct Step {
    uint32_t n_ubatch;
    std::vector<uint32_t> n_in_flight;
  };
  const Step whole{512, {1}}, in_parts{7, {1, 3}};
  const std::pair<uint32_t, Step> cases[] = {{0, whole}, {24, in_parts}};
  for (const auto& [q_lora, step] : cases) {
    const auto model =
        dir.write("m.gguf", tiny_model({.q_lora = q_lora, .quantised = q_lora > 0}).bytes());
    const Pass cpu = pass_of(model, {.n_ubatch = step.n_ubatch});
    for (Setup setup : kPlacements) {
      CAPTURE(setup.devices);
      CAPTURE(setup.rules);
      setup.n_ubatch = step.n_ubatch;
      for (const uint32_t n_in_flight : step.n_in_flight) {
        setup.n_in_flight = n_in_flight;
        CHECK(pass_of(model, setup) == cpu);
      }
    }
  }
}

TEST_CASE("golden models on a simulated device give the CPU's bits") {
  HYBRID_NEEDS_GOLDEN();
  for (const std::string name : {"lite-q4_k", "r1-q4_k", "v2-q4_k", "lite-iq4_xs"}) {
    CAPTURE(name);
    const auto model = golden("models/" + name + ".gguf");
    const Pass cpu = pass_of(model, {});
    CHECK(pass_of(model, {"sim", ".*=SIM0"}) == cpu);
    CHECK(pass_of(model, {"sim", "_exps=CPU,.*=SIM0"}) == cpu);
    CHECK(pass_of(model, {"sim:0,sim:1", "_exps=CPU,blk\\.0\\.=SIM1,.*=SIM0"}) == cpu);
    CHECK(pass_of(model, {"sim", "_exps@1-3=SIM0,_exps=CPU,.*=SIM0"}) == cpu);
  }
}

TEST_CASE("choices of experts are replayed and recorded on a device, too") {
  const TempDir dir;
  const auto model = dir.write("m.gguf", tiny_model().bytes());
  const Engine cpu(options_of(model, {}));
  const Engine sim(options_of(model, {"sim", ".*=SIM0"}));
  Sequence first = cpu.make_sequence();
  ExpertChoice other = pass_of(cpu, first).choice;
  for (int32_t& id : other.ids) id = (id + 1) % static_cast<int32_t>(kTinyExperts);
  Sequence a = cpu.make_sequence(), b = sim.make_sequence();
  const Pass expected = pass_of(cpu, a, &other);
  CHECK(expected.choice.ids == other.ids);
  CHECK(pass_of(sim, b, &other) == expected);
}

TEST_CASE("choices that are recorded are the CPU's, which reads nothing of a device's memory") {
  const TempDir dir;
  const auto model = dir.write("m.gguf", tiny_model({.selection_bias = true, .gating = 2}).bytes());
  const Engine cpu(options_of(model, {}));
  const Engine sim(options_of(model, {"sim", ".*=SIM0"}));
  size_t n_biased = 0;
  for (const LayerWeights& w : sim.model().weights().layers) {
    if (w.router_bias.empty()) continue;
    ++n_biased;
    REQUIRE(w.router_bias.data() != w.host_router_bias.data());
    // A GPU's would end the process here; this is memory of the host.
    auto* values = const_cast<float*>(w.router_bias.data());
    std::fill_n(values, w.router_bias.size(), NAN);
  }
  REQUIRE(n_biased > 0);
  const auto recorded = [](const Engine& engine) {
    const ModelConfig& config = engine.model().config();
    const auto n = static_cast<uint32_t>(kTokens.size());
    ExpertChoice choice(config.n_moe_layers(), n, config.moe.n_used);
    Sequence sequence = engine.make_sequence();
    Sequence::AppendArgs args;
    args.tokens = kTokens;
    args.record = &choice;
    REQUIRE(sequence.append(args));
    return choice.ids;
  };
  CHECK(recorded(sim) == recorded(cpu));
}

TEST_CASE("a device holds what the plan says, to the byte, and no run begins with a byte less") {
  LevelScope level;
  SUBCASE("weights as they are") { level.set(SimdLevel::scalar); }
  SUBCASE("packed weights") { level.set(simd_levels().back()); }
  const TempDir dir;
  const auto model = dir.write("m.gguf", tiny_model({.q_lora = 24, .quantised = true}).bytes());
  for (Setup setup : kPlacements) {
    CAPTURE(setup.rules);
    uint64_t most = 0;
    {
      const Engine engine(options_of(model, setup));
      Sequence sequence = engine.make_sequence();
      pass_of(engine, sequence);
      const PlacementPlan& plan = *engine.placement();
      for (size_t d = 1; d < plan.devices.size(); ++d) {
        CHECK(engine.model().devices()[d - 1]->device().used_bytes() == plan.loads[d].n_bytes());
        CHECK(plan.loads[d].n_bytes() > 0);
        most = std::max(most, plan.loads[d].n_bytes());
      }
    }
    setup.budget_bytes = most;
    pass_of(model, setup);
    setup.budget_bytes = most - 1;
    const std::string error = error_of([&] { pass_of(model, setup); });
    CHECK(error.find("would hold") != std::string::npos);
  }
}

TEST_CASE("loading and letting go a hundred times leaves nothing behind") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  Model model(path, ExpertGroups::automatic);
  PlanMachine machine = this_machine(parse_devices("sim"));
  ModelDevices devices = open_devices(machine);
  Device& device = devices.front()->device();
  ModelPlacement all = ModelPlacement::on_cpu(model.config().n_layers);
  all.n_processors = 2;
  for (LayerPlacement& layer : all.layers) layer.home = layer.net = layer.routed = 1;
  all.output = 1;
  all.number_cache_layers();
  Workers workers(1);
  uint64_t n_loaded = 0;
  for (int i = 0; i < 100; ++i) {
    Model again(path, ExpertGroups::automatic);
    ModelWeights weights = bind_weights(again.file(), again.config());
    const DeviceWeights on_device(device, weights,
                                  {.mla = again.config().mla,
                                   .placement = all,
                                   .processor = 1,
                                   .packed = {},
                                   .progress = nullptr},
                                  workers);
    const SequenceCache cache(mla_cache_shape(again.config().mla, again.config().n_layers, 32, {}),
                              all, devices);
    const SequencePlan plan = plan_sequence(again.config(), weights, 32, {});
    const Lanes lanes(again.config(), plan, devices);
    if (i == 0) n_loaded = device.used_bytes();
    CHECK(device.used_bytes() == n_loaded);
    CHECK(n_loaded > on_device.n_bytes() + cache.n_bytes());
  }
  CHECK(device.used_bytes() == 0);
  CHECK(device.pinned_bytes() == 0);
}

namespace {

/// A model with attention on a simulated device and routed experts on the host, or the other way
/// round.
struct Hybrid {
  Model model;

  Hybrid(const std::filesystem::path& path, bool experts_on_device,
         std::function<void()> before_work)
      : model(path, ExpertGroups::automatic) {
    ModelPlacement where = ModelPlacement::on_cpu(model.config().n_layers);
    where.n_processors = 2;
    for (LayerPlacement& layer : where.layers) {
      (experts_on_device ? layer.routed : layer.home) = 1;
    }
    where.output = experts_on_device ? 0 : 1;
    where.number_cache_layers();
    ModelDevices devices;
    devices.push_back(make_simulated_device(
        {.capacity_bytes = uint64_t{1} << 30, .before_work = std::move(before_work)}));
    model.place(where, std::move(devices));
    Workers workers(1);
    model.load_devices(false, false, {}, workers, nullptr);
  }
};

std::vector<float> logits_of(const Model& model, const std::atomic<bool>* stop = nullptr) {
  Sequence sequence(model, 32, {.n_ubatch = 5, .attention = {}, .n_in_flight = 2});
  std::vector<float> logits(kTokens.size() * model.config().n_vocab);
  Sequence::AppendArgs args;
  args.tokens = kTokens;
  args.n_logit_rows = static_cast<uint32_t>(kTokens.size());
  args.logits = logits.data();
  args.stop = stop;
  if (!sequence.append(args)) return {};
  return logits;
}

}  // namespace

TEST_CASE("whatever the speed of a device, the same bits") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const Model cpu(path, ExpertGroups::automatic);
  const std::vector<float> expected = logits_of(cpu);
  for (const bool experts_on_device : {false, true}) {
    std::mt19937 random(experts_on_device ? 1 : 2);  // of the device's thread
    const Hybrid hybrid(path, experts_on_device, [&] {
      if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
    });
    for (int i = 0; i < 100; ++i) REQUIRE(logits_of(hybrid.model) == expected);
  }
}

TEST_CASE("a device that fails in the middle of a step ends it with its name") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model().bytes());
  for (const int n_good : {0, 1, 30, 200}) {
    std::atomic<int> n_left = 1 << 30;
    const Hybrid hybrid(path, n_good % 2 == 1, [&] {
      if (n_left-- <= 0) throw Error("the fan has stopped");
    });
    n_left = n_good;
    const std::string error = error_of([&] { logits_of(hybrid.model); });
    CHECK(error.find("SIM0 (simulated) failed: the fan has stopped") != std::string::npos);
  }
}

TEST_CASE("a device that no longer answers ends a step within seconds") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model().bytes());
  std::atomic<bool> hangs = false;
  const Hybrid hybrid(path, false, [&] {
    while (hangs) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  std::jthread repair([&] {
    hangs = true;
    std::this_thread::sleep_for(kDeviceTimeout + std::chrono::seconds(2));
    hangs = false;
  });
  while (!hangs) std::this_thread::yield();
  const std::string error = error_of([&] { logits_of(hybrid.model); });
  CHECK(error.find("no answer for 10 s") != std::string::npos);
}

TEST_CASE("a step may be stopped at any moment, and the next one is whole") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const Model cpu(path, ExpertGroups::automatic);
  const std::vector<float> expected = logits_of(cpu);
  std::atomic<bool> stop = false;
  std::atomic<int> n_left = 1 << 30;
  const Hybrid hybrid(path, false, [&] {
    if (n_left-- == 0) stop = true;
  });
  int n_stopped = 0;
  for (int n = 0; n < 60; ++n) {
    stop = false;
    n_left = 7 * n;
    const std::vector<float> logits = logits_of(hybrid.model, &stop);
    n_stopped += logits.empty() ? 1 : 0;
    if (!logits.empty()) CHECK(logits == expected);
    n_left = 1 << 30;
    CHECK(logits_of(hybrid.model) == expected);
  }
  CHECK(n_stopped > 5);
  CHECK(hybrid.model.devices().front()->device().pinned_bytes() == 0);
}

TEST_CASE("after a stop the micro-batches that are done are kept, and the rest may follow") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const Model cpu(path, ExpertGroups::automatic);
  std::vector<float> expected(cpu.config().n_vocab);
  Sequence whole(cpu, 32, {.n_ubatch = 5, .attention = {}});
  REQUIRE(whole.append({.tokens = kTokens, .n_logit_rows = 1, .logits = expected.data()}));
  std::atomic<bool> stop = false;
  std::atomic<int> n_left = 1 << 30;
  const Hybrid hybrid(path, false, [&] {
    if (n_left-- == 0) stop = true;
  });
  std::vector<size_t> n_kept;
  for (int n = 0; n < 40; ++n) {
    Sequence sequence(hybrid.model, 32, {.n_ubatch = 5, .attention = {}, .n_in_flight = 2});
    stop = false;
    n_left = 10 * n;
    std::vector<float> logits(expected.size());
    Sequence::AppendArgs args;
    args.tokens = kTokens;
    args.n_logit_rows = 1;
    args.logits = logits.data();
    args.stop = &stop;
    if (!sequence.append(args)) {
      n_kept.push_back(sequence.tokens().size());
      CHECK(n_kept.back() % 5 == 0);
      args.tokens = args.tokens.subspan(n_kept.back());
      args.stop = nullptr;
      REQUIRE(sequence.append(args));
    }
    n_left = 1 << 30;
    CHECK(logits == expected);
  }
  CHECK(std::ranges::count(n_kept, 0) > 0);
  CHECK(std::ranges::count(n_kept, 0) < std::ssize(n_kept));
}

TEST_CASE("a sequence is saved and restored whatever lies where") {
  const TempDir dir;
  const auto model = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const Setup setups[] = {{}, {"sim", ".*=SIM0"}, {"sim:0,sim:1", "blk\\.1\\.=SIM1,.*=SIM0"}};
  const std::filesystem::path file = dir.path() / "saved";
  const auto logits_after = [](Sequence& sequence) {
    std::vector<float> logits(sequence.model().config().n_vocab);
    const TokenId next = 12;
    Sequence::AppendArgs args;
    args.tokens = std::span(&next, 1);
    args.n_logit_rows = 1;
    args.logits = logits.data();
    REQUIRE(sequence.append(args));
    return logits;
  };
  std::vector<float> expected;
  for (const Setup& from : setups) {
    const Engine engine(options_of(model, from));
    Sequence sequence = engine.make_sequence();
    pass_of(engine, sequence);
    SequenceFileWriter(file).write(sequence);
    Sequence copy = engine.make_sequence();
    copy.copy_prefix(sequence, sequence.tokens().size());
    const std::vector<float> logits = logits_after(sequence);
    if (expected.empty()) expected = logits;
    CHECK(logits == expected);
    CHECK(logits_after(copy) == expected);
    for (const Setup& to : setups) {
      const Engine other(options_of(model, to));
      Sequence restored = other.make_sequence();
      REQUIRE(restore_sequence(file, restored));
      CHECK(logits_after(restored) == expected);
    }
  }
}

TEST_CASE("what cannot be run is refused with the tensors' names") {
  const TempDir dir;
  const auto model = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const std::string error = error_of([&] {
    pass_of(model, {"sim", "blk\\.1\\.attn_kv_b=CPU,.*=SIM0"});
  });
  CHECK(error.find("blk.1.attn_kv_b.weight") != std::string::npos);
  CHECK(error.find("would lie on different devices") != std::string::npos);
  const auto refusal = [&](const Setup& setup) { return error_of([&] { pass_of(model, setup); }); };
  CHECK(refusal({"sim", "gate_exps@0-3=SIM0,.*=CPU"}).find("gate, up and down of an expert") !=
        std::string::npos);
  CHECK(refusal({"sim", "_exps@0-1=SIM0,_exps@4-5=SIM0,.*=CPU"}).find("2 ranges of the experts") !=
        std::string::npos);
  CHECK(error_of([&] {
          pass_of(model, {"none", ".*=SIM0"});
        }).find("--device sim") != std::string::npos);
}

TEST_CASE("lists of devices") {
  CHECK(parse_devices("none").empty());
  const std::vector<DeviceName> one{{DeviceKind::sim, 0}};
  CHECK(parse_devices("sim") == one);
  CHECK(parse_devices("sim:0") == one);
  CHECK(parse_devices("sim:1,sim:0") ==
        std::vector<DeviceName>{{DeviceKind::sim, 1}, {DeviceKind::sim, 0}});
  CHECK(parse_devices("cuda:1,cuda:0") ==
        std::vector<DeviceName>{{DeviceKind::cuda, 1}, {DeviceKind::cuda, 0}});
  for (const char* bad : {"", "sim,", "gpu", "sim:x", "sim,sim:0", "SIM0", "sim,cuda:0", "cuda",
                          "all", "cuda:0,cuda:0"}) {
    CAPTURE(bad);
    CHECK(error_of([&] { parse_devices(bad); }).find("--device") != std::string::npos);
  }
}
