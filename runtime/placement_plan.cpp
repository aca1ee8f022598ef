#include "runtime/placement_plan.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/units.h"
#include "placement/lint.h"
#include "placement/step_cost.h"
#include "runtime/cuda_devices.h"
#include "runtime/cuda_limits.h"
#include "runtime/placed_parts.h"
#include "runtime/simulated_ops.h"
#include "runtime/tensor_parts.h"

namespace hybrid {
namespace {

FixedBytes fixed_bytes(const ModelConfig& config, const RunPlan& run, const PlanMachine& machine,
                       DeviceName device) {
  if (!device.is_accelerator()) return {.activations = run.activation_bytes()};
  if (device.kind == DeviceKind::sim) {
    return {.activations = run.sequence.row_bytes + SimulatedOps::ops_bytes(run.sequence)};
  }
  return {.activations = cuda_activation_bytes(config, run.sequence),
          .context = kGpuMarginBytes + (machine.is_described() ? kGpuContextBytes : 0)};
}

PlacementPlan place(const ModelView& view, const RunSettings& settings,
                    const std::vector<PlacementRule>& rules, const PlanMachine& machine);

/// What a device has to hold with other settings, and what a person would type for them.
struct Remedy {
  std::string words;
  RunSettings settings;
};

std::vector<Remedy> remedies(const RunSettings& s) {
  std::vector<Remedy> all;
  const auto add = [&](std::string words, auto&& change) {
    Remedy r{std::move(words), s};
    change(r.settings);
    all.push_back(std::move(r));
  };
  constexpr uint64_t kScratch = uint64_t{512} << 20;
  const AttentionOptions& a = s.execution.attention;
  if (!a.flash) add("-fa 1", [](RunSettings& r) { r.execution.attention.flash = true; });
  if (a.max_scratch_bytes == 0 || a.max_scratch_bytes > kScratch) {
    add("-amb 512", [](RunSettings& r) { r.execution.attention.max_scratch_bytes = kScratch; });
  }
  if (a.key_type != DType::q8_0) {
    add("-ctk q8_0", [](RunSettings& r) {
      r.execution.attention.key_type = r.execution.attention.value_type = DType::q8_0;
    });
  }
  for (const uint32_t n : {256u, 64u}) {
    if (s.execution.n_ubatch <= n) continue;
    add(fmt::format("-ub {}", n), [n](RunSettings& r) { r.execution.n_ubatch = n; });
  }
  if (s.n_ctx >= 2 * kContextStep) {
    add(fmt::format("-c {}", s.n_ctx / 2), [](RunSettings& r) { r.n_ctx /= 2; });
  }
  if (s.pack) add("-rtr 0", [](RunSettings& r) { r.pack = false; });
  return all;
}

/// Accelerators that what every use of them takes leaves no room on; "" where there are none.
std::string unusable_text(const ModelConfig& config, const PlacementPlan& plan) {
  uint32_t n = 0, first = 0;
  for (uint32_t d = 1; d < plan.devices.size(); ++d) {
    if (plan.devices[d].fixed_bytes <= plan.devices[d].budget_bytes) continue;
    if (n++ == 0) first = d;
  }
  if (n == 0) return {};
  const FixedBytes fixed = fixed_bytes(config, plan.run, plan.machine, plan.devices[first].name);
  return fmt::format(
      "{}{} cannot be used: micro-batch and attention's scratch take {}, the GPU's context and "
      "margin {}, of {}",
      text_of(plan.devices[first].name), n > 1 ? fmt::format(" and {} others", n - 1) : "",
      format_bytes(fixed.activations), format_bytes(fixed.context),
      format_bytes(plan.devices[first].budget_bytes));
}

uint64_t excess(const PlacementPlan& plan) {
  uint64_t n = 0;
  for (const uint32_t d : plan.fit.over_budget) {
    n += plan.fit.used_bytes[d] - plan.devices[d].budget_bytes;
  }
  return n;
}

/// The remedies that help most, each alone.
std::string advice(const ModelView& view, const PlacementPlan& plan) {
  struct Saving {
    uint64_t n_bytes;
    std::string words;
  };
  std::vector<Saving> savings;
  const uint64_t before = excess(plan);
  for (const Remedy& r : remedies(plan.run.settings)) {
    const PlacementPlan other = place(view, r.settings, plan.rules, plan.machine);
    if (other.fits()) {
      savings.push_back({UINT64_MAX, r.words + " would fit"});
    } else if (const uint64_t after = excess(other); after + before / 20 < before) {
      savings.push_back(
          {before - after, fmt::format("{} would save {}", r.words, format_bytes(before - after))});
    }
  }
  std::stable_sort(savings.begin(), savings.end(),
                   [](const Saving& a, const Saving& b) { return a.n_bytes > b.n_bytes; });
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(savings.size(), 3); ++i) {
    text += (i == 0 ? "; " : ", ") + savings[i].words;
  }
  return text.empty() ? "; take a smaller model, or a machine with more memory" : text;
}

std::string terms_text(const PlacementPlan& plan, uint32_t d) {
  struct Term {
    uint64_t n_bytes;
    const char* name;
  };
  std::vector<Term> terms{{plan.loads[d].weight_bytes, "weights"},
                          {plan.loads[d].cache_bytes, "KV cache"},
                          {plan.fixed[d].activations, "micro-batch and attention's scratch"},
                          {plan.fixed[d].context, "the GPU's context and margin"}};
  std::stable_sort(terms.begin(), terms.end(),
                   [](const Term& a, const Term& b) { return a.n_bytes > b.n_bytes; });
  std::string text;
  for (const Term& term : terms) {
    if (term.n_bytes == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", term.name, format_bytes(term.n_bytes));
  }
  return text;
}

/// What rules leave in the file is read once where it stays in memory beside the rest.
void judge_disk(PlacementPlan& plan) {
  uint64_t mapped = 0;
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    if (plan.fit.placement.device_of[i] != 0) continue;
    mapped += plan.input.cpu_weights[i].mapped;
    if (plan.input.model.pieces[i].on_disk) plan.disk_bytes += plan.input.cpu_weights[i].mapped;
  }
  if (plan.disk_bytes == 0) return;
  plan.disk_fits =
      plan.loads.front().n_bytes() + mapped <= plan.machine.devices.front().capacity_bytes;
  DeviceSpeed& cpu = plan.devices.front().speed;
  if (!plan.disk_fits) return;
  cpu.disk_rate = cpu.read_rate;
  plan.fit.token_seconds =
      StepCost(plan.input.model, plan.devices).step_seconds(plan.fit.placement, {});
}

/// Norms and biases are kept as floats whatever rules say.
void add_disk_findings(PlacementPlan& plan) {
  std::map<uint32_t, uint32_t> n_floats;  // by rule
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    const auto rule = plan.input.rule_of[i];
    if (!rule || plan.rules[*rule].device.kind != DeviceKind::disk) continue;
    if (!plan.input.model.pieces[i].on_disk) ++n_floats[*rule];
  }
  for (const auto& [rule, n] : n_floats) {
    plan.findings.push_back(fmt::format(
        "rule {} ({}) matches {} norms and biases, which are kept in memory all the same: a few "
        "bytes each; let it name matrices alone",
        plan.rules[rule].text(), plan.rules[rule].origin, n));
  }
}

/// Pieces that some accelerator has no kernel for stay on the CPU unless a rule says otherwise.
FixedPieces fixed_pieces(const PlacementPlan& plan) {
  std::vector<uint32_t> device_of_rule;
  for (const PlacementRule& rule : plan.rules) {
    device_of_rule.push_back(plan.machine.index_of(rule.device, rule.origin + ": " + rule.text()));
  }
  FixedPieces fixed;
  for (uint32_t i = 0; i < plan.input.rule_of.size(); ++i) {
    const auto rule = plan.input.rule_of[i];
    const DType type = plan.input.model.pieces[i].type;
    const bool has_kernels =
        std::all_of(plan.devices.begin(), plan.devices.end(),
                    [&](const PlacementDevice& d) { return d.has_kernel(type); });
    fixed.push_back(rule          ? std::optional(device_of_rule[*rule])
                    : has_kernels ? std::nullopt
                                  : std::optional(0u));
  }
  return fixed;
}

/// The plan without its findings.
PlacementPlan place(const ModelView& view, const RunSettings& settings,
                    const std::vector<PlacementRule>& rules, const PlanMachine& machine) {
  RunSettings with_kept = settings;
  with_kept.kept = tensors_on_disk(view.file, rules);
  with_kept.execution.split_experts = splits_experts(rules, machine);
  PlacementPlan plan{.run = plan_run(view.file, view.config, view.weights, with_kept),
                     .machine = machine,
                     .rules = rules};
  plan.refusal = plan.run.sequence.attention.refusal();
  plan.input = make_placement_input(view, plan.run, rules, machine.layout());
  for (const PlanDevice& d : machine.devices) {
    plan.fixed.push_back(fixed_bytes(view.config, plan.run, machine, d.name));
    plan.devices.push_back({.name = d.name,
                            .budget_bytes = d.budget_bytes,
                            .fixed_bytes = plan.fixed.back().n_bytes(),
                            .speed = d.speed,
                            .types = d.types});
  }
  plan.fit = fit_placement(plan.input.model, plan.devices, fixed_pieces(plan));
  plan.loads = device_loads(plan.input.model, plan.devices, plan.fit.placement);
  plan.where = model_placement(plan.input, plan.fit.placement,
                               static_cast<uint32_t>(plan.devices.size()), plan.not_possible);
  if (plan.not_possible.empty() && machine.layout() == DeviceLayout::panels) {
    plan.not_possible = cuda_refusal(view, plan.run.settings, plan.where);
    if (plan.not_possible.empty() && !machine.is_described()) {
      plan.missing = plan.not_possible = missing_cuda_library(plan.run.sequence, plan.where);
    }
  }
  judge_disk(plan);
  for (uint32_t d = 0; d < plan.fixed.size(); ++d) {
    if (plan.loads[d].fixed_bytes == 0) plan.fixed[d] = {};  // not used
  }
  return plan;
}

void add_findings(const ModelConfig& config, PlacementPlan& plan) {
  const FixedPieces fixed = fixed_pieces(plan);
  plan.findings = lint_placement({.inventory = plan.input.inventory,
                                  .model = plan.input.model,
                                  .devices = plan.devices,
                                  .rules = plan.rules,
                                  .n_matched = plan.input.n_matched,
                                  .n_decided = plan.input.n_decided,
                                  .placement = plan.fit.placement,
                                  .fixed = fixed,
                                  .rule_of = plan.input.rule_of,
                                  .n_ubatch = plan.run.sequence.n_ubatch,
                                  .node_bytes = plan.machine.node_bytes,
                                  .cpu_bytes = plan.loads.front().n_bytes()});
  add_disk_findings(plan);
  if (std::string text = unusable_text(config, plan); !text.empty()) {
    plan.findings.push_back(std::move(text));
  }
}

}  // namespace

PlacementPlan plan_placement(const ModelView& view, const RunSettings& settings,
                             const std::vector<PlacementRule>& rules, const PlanMachine& machine) {
  PlacementPlan plan = place(view, settings, rules, machine);
  add_findings(view.config, plan);
  return plan;
}

uint32_t largest_context(const ModelView& view, const RunSettings& settings,
                         const std::vector<PlacementRule>& rules, const PlanMachine& machine) {
  const auto fits = [&](uint32_t n_steps) {
    RunSettings s = settings;
    s.n_ctx = n_steps * kContextStep;
    return place(view, s, rules, machine).fits();
  };
  uint32_t fitting = 0, beyond = view.config.n_ctx_train / kContextStep + 1;
  while (beyond - fitting > 1) {
    const uint32_t middle = (fitting + beyond) / 2;
    (fits(middle) ? fitting : beyond) = middle;
  }
  return fitting * kContextStep;
}

std::string why_not(const ModelView& view, const PlacementPlan& plan) {
  if (plan.fits()) return {};
  if (!plan.refusal.empty()) return plan.refusal;
  if (plan.fit.fits()) return plan.not_possible;
  if (!plan.machine.is_described() && plan.devices.size() == 1) {
    return plan.run.why_not(plan.devices.front().budget_bytes);  // in the words of `run`
  }
  std::string text;
  for (const uint32_t d : plan.fit.over_budget) {
    text += fmt::format("{}{} would hold {} of {}: {}", text.empty() ? "" : "; ",
                        text_of(plan.devices[d].name), format_bytes(plan.fit.used_bytes[d]),
                        format_bytes(plan.devices[d].budget_bytes), terms_text(plan, d));
  }
  return text + advice(view, plan);
}

std::string why_not_used(const PlacementPlan& plan) {
  if (!plan.not_possible.empty()) return plan.not_possible;
  uint64_t n_bytes = 0;
  for (size_t d = 1; d < plan.loads.size(); ++d) n_bytes += plan.loads[d].n_bytes();
  return n_bytes > 0 ? "" : "nothing of this model would be faster there, or there is no room";
}

}  // namespace hybrid
