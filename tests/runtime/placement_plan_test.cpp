// Plans for machines that are not here, of models whose data is not there.

#include "runtime/placement_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "runtime/plan_report.h"
#include "tests/runtime/sequence_cases.h"
#include "tests/support/expect_error.h"
#include "tests/support/real_headers.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20, kGiB = uint64_t{1} << 30;

struct HeaderFile {
  TempDir dir;
  ModelHeaders headers;

  explicit HeaderFile(const std::string& bytes)
      : headers(dir.write("m.gguf", bytes), ExpertGroups::automatic) {}
};

PlanMachine machine_with(uint64_t cpu_bytes, uint32_t n_gpus, uint64_t gpu_bytes) {
  PlanMachine machine{.name = "described", .devices = {}, .basis = "described rates"};
  const auto add = [&](DeviceName name, uint64_t n_bytes, double read_rate) {
    machine.devices.push_back(
        {.name = name,
         .capacity_bytes = n_bytes,
         .total_bytes = n_bytes,
         .budget_bytes = n_bytes,
         .speed = {.read_rate = read_rate, .link_rate = 25e9, .hop_seconds = kHopSeconds}});
  };
  add({}, cpu_bytes, 200e9);
  for (uint32_t i = 0; i < n_gpus; ++i) add({DeviceKind::cuda, i}, gpu_bytes, 900e9);
  return machine;
}

RunSettings settings(uint32_t n_ctx, AttentionOptions attention = {}, uint32_t n_ubatch = 512) {
  return {.n_ctx = n_ctx, .execution = {.n_ubatch = n_ubatch, .attention = attention}};
}

/// The devices of the tensors whose names contain `part`.
std::string devices_of(const PlacementPlan& plan, const std::string& part) {
  std::set<std::string> devices;
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    const auto& tensor = plan.input.inventory[plan.input.model.pieces[i].tensor];
    if (tensor.tensor->info.name.find(part) == std::string::npos) continue;
    devices.insert(text_of(plan.devices[plan.fit.placement.device_of[i]].name));
  }
  std::string text;
  for (const std::string& device : devices) text += (text.empty() ? "" : " ") + device;
  return text;
}

/// What lint says of rules, a line each.
std::string findings_text(const HeaderFile& file, const char* rules, const PlanMachine& machine) {
  std::string text;
  for (const std::string& f :
       plan_placement(file.headers, settings(4096), parse_rules(rules, "-ot"), machine).findings) {
    text += f + "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("R1 on one GPU of 24 GB: all but the routed experts are on it") {
  const HeaderFile r1(r1_headers());
  const PlanMachine machine = machine_with(512 * kGiB, 1, 24 * kGiB);
  const PlacementPlan plan = plan_placement(r1.headers, settings(32768), {}, machine);
  CHECK(plan.fits());
  CHECK(plan.findings.empty());
  for (const char* part : {"attn_", "_shexp", "blk.0.ffn_up", "ffn_gate_inp", "output"}) {
    CAPTURE(part);
    CHECK(devices_of(plan, part) == "CUDA0");
  }
  CHECK(devices_of(plan, "token_embd") == "CPU");
  CHECK(devices_of(plan, "blk.60.ffn_up_exps") == "CPU");
  CHECK(plan.loads[1].cache_bytes == uint64_t{61} * 1152 * 32768);
  CHECK(plan.loads[0].cache_bytes == 0);
}

TEST_CASE("the largest context fits, and one more step does not") {
  const HeaderFile r1(r1_headers());
  const PlanMachine machine = machine_with(512 * kGiB, 1, 16 * kGiB);
  const auto rules = parse_rules("exps=CPU,token_embd=CPU,.=CUDA0", "-ot");
  const uint32_t n = largest_context(r1.headers, settings(32768), rules, machine);
  CHECK(n > 32768);
  CHECK(n % 256 == 0);
  CHECK(n < 163840);
  CHECK(plan_placement(r1.headers, settings(n), rules, machine).fits());
  const PlacementPlan more = plan_placement(r1.headers, settings(n + 256), rules, machine);
  CHECK(!more.fits());
  const std::string reason = why_not(r1.headers, more);
  CHECK(reason.find("CUDA0 would hold 16.0") == 0);
  CHECK(reason.find("-ctk q8_0 would fit") != std::string::npos);
}

TEST_CASE("R1 at Q2_K on 15 GPUs of 24 GB at the whole context, without experts on the CPU") {
  const HeaderFile r1(r1_headers({.type = DType::q2_k, .down_type = DType::q3_k}));
  const PlanMachine machine = machine_with(64 * kGiB, 15, 24 * kGiB);
  AttentionOptions scored{.flash = false, .max_scratch_bytes = 1024 * kMiB};
  const PlacementPlan plan =
      plan_placement(r1.headers, settings(163840, scored, 1024), {}, machine);
  CHECK(plan.fits());
  CHECK(devices_of(plan, "exps").find("CPU") == std::string::npos);
  for (size_t layer = 1; layer < plan.fit.placement.home.size(); ++layer) {
    CHECK(plan.fit.placement.home[layer] >= plan.fit.placement.home[layer - 1]);
  }
  scored.max_scratch_bytes = 0;
  const PlacementPlan unlimited =
      plan_placement(r1.headers, settings(163840, scored, 1024), {}, machine);
  CHECK(!unlimited.fits());
  const std::string reason = why_not(r1.headers, unlimited);
  CAPTURE(reason);
  CHECK(reason.find("attention's scratch 8") != std::string::npos);  // 80 GiB of scores and more
  CHECK(reason.find("-amb 512 would fit") != std::string::npos);
  CHECK(reason.find("-fa 1 would fit") != std::string::npos);
  // A GPU's scores, weights, keys and values of all heads take 130 GiB.
  REQUIRE(unlimited.findings.size() == 1);
  CHECK(unlimited.findings[0].find("CUDA0 and 14 others cannot be used: micro-batch and") == 0);

  // Keys and values of all heads take 10 GiB.
  const PlacementPlan small =
      plan_placement(r1.headers, settings(163840, {.max_scratch_bytes = 0}, 1024), {},
                     machine_with(512 * kGiB, 15, 8 * kGiB));
  REQUIRE(small.findings.size() == 1);
  CHECK(small.findings[0].find("CUDA0 and 14 others cannot be used: micro-batch and") == 0);
}

TEST_CASE("rules decide first, the rest is filled in around them") {
  const HeaderFile lite(lite_headers());
  const PlanMachine machine = machine_with(16 * kGiB, 1, 24 * kGiB);
  const auto on_cpu = parse_rules(R"(blk\.[0-9]\.ffn_.*_exps\.=CPU)", "-ot");
  const PlacementPlan plan = plan_placement(lite.headers, settings(4096), on_cpu, machine);
  CHECK(devices_of(plan, "blk.9.ffn_up_exps") == "CPU");
  CHECK(devices_of(plan, "blk.10.ffn_up_exps") == "CUDA0");
  CHECK(plan.findings.empty());
  const double free_rate =
      1 / plan_placement(lite.headers, settings(4096), {}, machine).fit.token_seconds;
  CHECK(1 / plan.fit.token_seconds < free_rate);
}

TEST_CASE("a rule for a device that is not there says which ones are") {
  const HeaderFile lite(lite_headers());
  const auto error = [&](const char* rule, const PlanMachine& machine) {
    return error_of(
        [&] { plan_placement(lite.headers, settings(4096), parse_rules(rule, "-ot"), machine); });
  };
  CHECK(error("exps=CUDA1", machine_with(16 * kGiB, 1, kGiB)) ==
        "-ot: exps=CUDA1: described has no CUDA1, its devices are: CPU, CUDA0");
  CHECK(error("exps=CUDA0", this_machine()) ==
        "-ot: exps=CUDA0: this machine has no CUDA0, its devices are: CPU; `plan --machine FILE` "
        "plans for "
        "another machine");
}

TEST_CASE("lint finds rules without effect, experts torn apart and layers scattered") {
  const HeaderFile lite(lite_headers());
  const PlanMachine machine = machine_with(64 * kGiB, 2, 24 * kGiB);
  const auto findings = [&](const char* rules) { return findings_text(lite, rules, machine); };
  CHECK(findings("exps=CPU") == "");
  CHECK(findings("ffn_upp_exps=CPU") ==
        "rule ffn_upp_exps=CPU (-ot) matches no tensor; names are like blk.3.ffn_up_exps.weight, "
        "`inspect` lists them\n");
  CHECK(findings("exps=CPU,ffn_up_exps=CPU") ==
        "rule ffn_up_exps=CPU (-ot) decides nothing: rules before it take all 26 tensors that it "
        "matches; put it before them\n");
  CHECK(findings(R"(blk\.3\.ffn_up_exps=CPU,exps=CUDA0)")
            .find("the up-projection of routed experts is on CPU, its gate on CUDA0 (layer 3)") !=
        std::string::npos);
  CHECK(
      findings("ffn_gate_inp=CPU,.=CUDA0")
          .find("ffn_gate_inp.weight is on CPU, its layer on CUDA0 (26 layers, the first is 1)") !=
      std::string::npos);
}

TEST_CASE(
    "a rule that puts a type where no kernel takes it is found, auto-fit does no such thing") {
  const HeaderFile lite(lite_headers({.down_type = DType::iq4_nl}));
  PlanMachine machine = machine_with(64 * kGiB, 1, 24 * kGiB);
  const auto plan_with = [&](const char* rules) {
    return plan_placement(lite.headers, settings(4096), parse_rules(rules, "-ot"), machine);
  };
  CHECK(plan_with("exps=CUDA0").findings.empty());
  machine.devices[1].types = {DType::f32, DType::q4_k, DType::q6_k};
  const auto findings = plan_with("exps=CUDA0").findings;
  REQUIRE(!findings.empty());
  CHECK(findings[0] ==
        "rule exps=CUDA0 (-ot) puts blk.1.ffn_down_exps.weight and 25 more on CUDA0, which has no "
        "kernel for IQ4_NL: leave them to the CPU, or take a file with another type there");
  const PlacementPlan fitted = plan_with("none=CPU");
  CHECK(devices_of(fitted, "ffn_down_exps") == "CPU");
  CHECK(devices_of(fitted, "attn_q") == "CUDA0");
}

TEST_CASE("a rule whose experts slow prefill is found, with both figures") {
  const HeaderFile lite(lite_headers());
  PlanMachine machine = machine_with(64 * kGiB, 2, 24 * kGiB);
  const auto findings = [&](const char* rules) { return findings_text(lite, rules, machine); };
  // Without rates of products nothing is said.
  CHECK(findings(R"(blk\.[1-9]\.ffn_.*_exps=CPU)") == "");
  machine.devices[0].speed.flop_rate = 1e12;
  machine.devices[1].speed.flop_rate = machine.devices[2].speed.flop_rate = 100e12;
  const std::string found = findings(R"(blk\.[1-9]\.ffn_.*_exps=CPU)");
  CHECK(found.find(R"(rule blk\.[1-9]\.ffn_.*_exps=CPU (-ot) puts blk.1.ffn_)") == 0);
  CHECK(found.find("_exps.weight on CPU, where its experts slow prefill: ") != std::string::npos);
  CHECK(found.find(" without the rule, which puts it on CUDA0; leave these experts out of it") !=
        std::string::npos);
  // From a disk, where there is no room for them beside the rest.
  const PlanMachine two = std::exchange(machine, machine_with(6 * kGiB, 0, 0));
  machine.devices[0].speed.flop_rate = 1e12;
  machine.devices[0].speed.disk_rate = 1e9;
  CHECK(findings("ffn_.*_exps=DISK") == "");    // nor is there without the rule
  machine.devices[0].budget_bytes = 16 * kGiB;  // swap, a person thinks
  CHECK(findings("ffn_.*_exps=DISK").find("on DISK, where its experts slow prefill") !=
        std::string::npos);
  machine = two;
  // The same where they would be anyway costs nothing.
  CHECK(findings(R"(blk\.[1-9]\.ffn_.*_exps=CUDA0)") == "");
}

TEST_CASE("a NUMA node that does not hold its share is found") {
  const HeaderFile r1(r1_headers());
  PlanMachine machine = machine_with(512 * kGiB, 0, 0);
  const auto findings = [&] {
    return plan_placement(r1.headers, settings(4096), {}, machine).findings;
  };
  machine.node_bytes = {256 * kGiB, 256 * kGiB};
  CHECK(findings().empty());
  machine.node_bytes = {384 * kGiB, 128 * kGiB};
  REQUIRE(findings().size() == 1);
  CHECK(findings()[0].find("NODE1 is over-filled: its share of the CPU's 3") == 0);
  CHECK(findings()[0].find("and it has 128.00 GiB; put ") != std::string::npos);
  CHECK(findings()[0].find("the largest tensor there is blk.3.ffn_") != std::string::npos);
}

TEST_CASE("what stays on DISK takes no memory, and is as slow as the disk where it has no room") {
  const HeaderFile r1(r1_headers());
  PlanMachine machine = machine_with(512 * kGiB, 0, 0);
  const auto plan_with = [&](const char* rules) {
    return plan_placement(r1.headers, settings(4096), parse_rules(rules, "-ot"), machine);
  };
  const PlacementPlan all = plan_with("none=CPU");
  PlacementPlan disk = plan_with(R"(blk\.[3-9]\.ffn_.*_exps=DISK)");
  const uint64_t n_bytes = uint64_t{7} * 3 * 256 * 7168 * 2048 / 256 * 144;
  CHECK(disk.disk_bytes == n_bytes);
  CHECK(all.loads[0].weight_bytes - disk.loads[0].weight_bytes > n_bytes);  // with exponents
  CHECK(disk.disk_fits);
  CHECK(disk.fit.token_seconds == doctest::Approx(all.fit.token_seconds));
  const auto json = plan_json(r1.headers, disk, {});
  REQUIRE(json["devices"].size() == 2);
  CHECK(json["devices"][1]["name"] == "DISK");
  CHECK(json["devices"][1]["weights_bytes"] == n_bytes);
  for (const auto& device : json["devices"]) {
    uint64_t sum = 0;
    for (const char* key : {"weights_bytes", "kv_bytes", "activation_bytes", "context_bytes",
                            "staging_bytes", "free_bytes"}) {
      sum += device[key].get<uint64_t>();
    }
    CHECK(device["capacity_bytes"] == sum);
  }
  for (const auto& tensor : json["tensors"]) {
    if (tensor["name"] == "blk.5.ffn_up_exps.weight") {
      CHECK(tensor["device"] == "DISK");
      CHECK(tensor["layout"] == "mapped");
    }
  }
  // Less memory than that: 8 of 256 experts of each layer are read from the disk for a token.
  machine.devices[0].capacity_bytes = machine.devices[0].budget_bytes = 350 * kGiB;
  machine.devices[0].speed.disk_rate = 1e9;
  disk = plan_with(R"(blk\.[3-9]\.ffn_.*_exps=DISK)");
  CHECK(disk.fits());
  CHECK_FALSE(disk.disk_fits);
  const double per_token = static_cast<double>(n_bytes) * 8 / 256;
  CHECK(disk.fit.token_seconds ==
        doctest::Approx(all.fit.token_seconds + per_token / 1e9 - per_token / 200e9));
  CHECK(plan_text(r1.headers, disk, {}).find("DISK 1.0 GB/s (a default)") != std::string::npos);
  // Norms are kept as floats all the same, and that is said.
  const auto findings = plan_with("attn_norm=DISK").findings;
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].find("rule attn_norm=DISK (-ot) matches 61 norms and biases") == 0);
}

TEST_CASE("devices without a backend are refused in one line") {
  const HeaderFile lite(lite_headers());
  const PlanMachine machine = machine_with(64 * kGiB, 1, 24 * kGiB);
  CHECK(error_of([&] {
          plan_placement(lite.headers, settings(4096), parse_rules("exps=NODE1", "-ot"), machine);
        }) ==
        "-ot: exps=NODE1: NODE1 cannot be used in this version; devices of described are: CPU, "
        "CUDA0, DISK");
}

TEST_CASE("prefill is predicted where all rates are known") {
  const HeaderFile r1(r1_headers());
  PlanMachine machine = machine_with(512 * kGiB, 1, 24 * kGiB);
  const auto predicted = [&] {
    const PlacementPlan plan = plan_placement(r1.headers, settings(4096), {}, machine);
    return plan_json(r1.headers, plan, {})["predicted"]["pp_tps"];
  };
  CHECK(predicted().is_null());
  machine.devices[1].speed.flop_rate = 100e12;
  CHECK(predicted().is_null());
  // 57 layers of routed experts on the CPU: 8 x 3 x 7168 x 2048 multiplications and additions each.
  machine.devices[0].speed.flop_rate = 10e12;
  const double bound = 10e12 / (57.0 * 8 * 3 * 7168 * 2048 * 2);
  CHECK(predicted().get<double>() < bound);
  CHECK(predicted().get<double>() > 0.4 * bound);
  // As fast as can be: all experts are read once for a micro-batch of 512.
  machine.devices[0].speed.flop_rate = machine.devices[1].speed.flop_rate = 1e18;
  const double all_bytes = 57.0 * 256 * 3 * 7168 * 2048 * 144 / 256;
  const double reading = 512 * 200e9 / all_bytes;
  CHECK(predicted().get<double>() < 1.001 * reading);
  CHECK(predicted().get<double>() > 0.8 * reading);
}

TEST_CASE("the report of a plan for several devices") {
  const HeaderFile r1(r1_headers());
  const PlanMachine machine = machine_with(512 * kGiB, 2, 24 * kGiB);
  auto rules = parse_rules("ffn_.*_exps=CPU", "-ot");
  rules.front().experts = ExpertRange{0, 200};
  const PlacementPlan plan = plan_placement(r1.headers, settings(32768), rules, machine);
  const auto json = plan_json(r1.headers, plan, {4096});
  REQUIRE(json["devices"].size() == 3);
  for (const auto& device : json["devices"]) {
    uint64_t sum = 0;
    for (const char* key : {"weights_bytes", "kv_bytes", "activation_bytes", "context_bytes",
                            "staging_bytes", "free_bytes"}) {
      sum += device[key].get<uint64_t>();
    }
    CHECK(device["capacity_bytes"] == sum);
    CHECK(device["simulated"] == false);
  }
  CHECK(json["devices"][1]["name"] == "CUDA0");
  CHECK(json["devices"][1]["kind"] == "cuda");
  CHECK(json["rules"][0]["pattern"] == "ffn_.*_exps");
  CHECK(json["rules"][0]["matched"] == 3 * 58);
  CHECK(json["rules"][0]["decided"] == 3 * 58);
  // Beside what the fit looked at the rows of experts that devices have are copied.
  const double rate = json["predicted"]["tg_tps"].get<double>();
  CHECK(rate < 1 / plan.fit.token_seconds);
  CHECK(rate > 0.95 / plan.fit.token_seconds);
  const auto& lanes = json["predicted"]["lanes"]["token"];
  CHECK(lanes["seconds"].get<double>() == doctest::Approx(1 / rate));
  REQUIRE(lanes["devices"].size() == 3);
  for (const auto& lane : lanes["devices"]) CHECK(lane["busy_s"].get<double>() > 0);
  CHECK(lanes["devices"][0]["link_s"] == 0);
  CHECK(lanes["devices"][1]["link_s"].get<double>() > 0);
  CHECK(json["largest_context"] == 4096);
  for (const auto& tensor : json["tensors"]) {
    if (tensor["name"] != "blk.5.ffn_up_exps.weight") continue;
    REQUIRE(tensor["parts"].size() == 2);
    CHECK(tensor["parts"][0]["experts"] == "0-200");
    CHECK(tensor["parts"][0]["device"] == "CPU");
    CHECK(tensor["parts"][0]["rule"] == "ffn_.*_exps=CPU experts 0-200");
    CHECK(tensor["parts"][1]["rule"].is_null());
  }
  const std::string text = plan_text(r1.headers, plan, {4096});
  for (const char* part : {"memory (CPU)", "memory (GPU)", "layers", "ffn_.*_exps experts 0-200",
                           "fits: true", "largest context that fits: 4096\n", "predicted, t/s"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(std::count(text.begin(), text.end(), '\n') < 64);
}

TEST_CASE("the report of a plan for the CPU alone") {
  const TinyFile tiny({.quantised = true});
  const ModelHeaders model(tiny.path, ExpertGroups::automatic);
  PlanMachine machine = machine_with(32 * kMiB, 0, 0);
  const RunSettings of_run{.n_ctx = 100};
  const PlacementPlan plan = plan_placement(model, of_run, {}, machine);
  const auto json = plan_json(model, plan, {});
  const auto& cpu = json["devices"][0];
  CHECK(cpu["name"] == "CPU");
  CHECK(cpu["weights"]["panels_bytes"] == plan.run.weights.panels);
  CHECK(cpu["weights"]["mapped_bytes"] == plan.run.weights.mapped);
  CHECK(cpu["kv_bytes"] == plan.run.sequence.cache_bytes);
  CHECK(cpu["activation_bytes"] == plan.run.activation_bytes());
  CHECK(json["context"] == 100);
  CHECK(json["fits"] == true);
  CHECK(json["rules"].empty());
  CHECK(json["tensors"].size() == model.file.tensors().size());
  CHECK(json["tensors"][0]["node"].is_null());
  CHECK(json["attention"]["cache_bytes"] == plan.run.sequence.cache_bytes);
  CHECK(json["attention"]["crossover"].size() == 4);
  CHECK(json["warnings"][0] ==
        "the context of 100 exceeds the 64 tokens the model was trained for");
  machine.devices.front().capacity_bytes = machine.devices.front().budget_bytes = 1000;
  machine.name.clear();
  const PlacementPlan tight = plan_placement(model, of_run, {}, machine);
  const auto tight_json = plan_json(model, tight, {});
  CHECK(tight_json["fits"] == false);
  CHECK(tight_json["devices"][0]["free_bytes"] == 0);
  CHECK(tight_json["why_not"] == tight.run.why_not(1000));
  CHECK(plan_text(model, tight, {}).find("fits: false: not enough memory") != std::string::npos);
}

TEST_CASE("headers alone are enough, and what is missing of the rest is said") {
  const HeaderFile r1(r1_headers());
  const PlacementPlan plan =
      plan_placement(r1.headers, settings(4096), {}, machine_with(512 * kGiB, 0, 0));
  const auto warnings = plan_warnings(r1.headers, plan);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("the file ends before the data of") == 0);
}
