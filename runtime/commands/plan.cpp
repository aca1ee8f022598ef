#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "runtime/commands/command.h"
#include "runtime/plan_report.h"
#include "runtime/saved_plan.h"

namespace hybrid::commands {
namespace {

/// The machine of --machine, with its level in force unless --isa names one.
std::optional<MachineSpec> described(const Options& options) {
  const auto file = options.find("machine");
  if (!file) return {};
  if (numa_mode(options) == NumaMode::numactl) {
    fail_usage("--numa numactl is of a launch, which a described machine has none of; give {}",
               "distribute, isolate or off");
  }
  MachineSpec spec = read_machine(*file);
  if (!options.is_set("isa")) assume_simd_level(spec.cpu.isa);
  return spec;
}

/// Those of its GPUs that --device names. Throws Error for one that it does not have.
PlanMachine with_devices(PlanMachine machine, const PlacementRequest& request) {
  if (request.devices_are_found) return machine;
  std::vector<PlanDevice> chosen{machine.devices.front()};
  for (const DeviceName device : request.devices) {
    chosen.push_back(machine.devices[machine.index_of(device, "--device")]);
  }
  machine.devices = std::move(chosen);
  return machine;
}

PlanMachine here(const RunSettings& settings, const std::vector<DeviceName>& devices) {
  const ExecutionOptions& execution = settings.execution;
  return with_stored_rates(this_machine(devices), execution.n_threads, execution.n_threads_batch);
}

/// Of a described machine all cores, unless -t says how many.
void set_described_threads(const Options& options, uint32_t n_cores, RunSettings& settings) {
  if (options.is_set("threads")) return;
  settings.execution.n_threads = static_cast<int>(n_cores);
  if (!options.is_set("threads-batch"))
    settings.execution.n_threads_batch = settings.execution.n_threads;
}

/// What a run would do: it leaves GPUs alone that are found but of no use.
PlacementPlan plan_of_run(const Options& options, const ModelView& model, RunSettings& settings,
                          const PlacementRequest& request, const std::optional<MachineSpec>& spec) {
  PlanMachine machine = spec ? with_devices(described_machine(*spec, numa_mode(options)), request)
                             : here(settings, request.devices);
  if (spec) set_described_threads(options, machine.n_cores, settings);
  machine = with_budgets(std::move(machine), request);
  settings.execution.n_in_flight = machine.has_accelerators() ? 2 : 1;
  const auto rules = request.all_rules(model.config.n_layers, machine);
  PlacementPlan plan = plan_placement(model, settings, rules, machine);
  if (spec || !request.devices_are_found || !rules.empty() || !machine.has_accelerators()) {
    return plan;
  }
  const std::string note = why_not_used(plan);
  if (note.empty()) return plan;
  machine = with_budgets(here(settings, {}), request);
  machine.notices.push_back("GPUs are not used: " + note);
  settings.execution.n_in_flight = 1;
  return plan_placement(model, settings, {}, machine);
}

/// The CPU alone, in place of what cannot be for `reason`.
PlacementPlan plan_of_none(const Options& options, const ModelView& model, RunSettings& settings,
                           const std::optional<MachineSpec>& spec, const std::string& reason) {
  PlanMachine machine = spec ? described_machine(*spec) : here(settings, {});
  machine.devices.resize(1);
  if (spec) set_described_threads(options, machine.n_cores, settings);
  settings.execution.n_in_flight = 1;
  PlacementPlan plan = plan_placement(model, settings, {}, machine);
  plan.refusal = reason;
  return plan;
}

/// A plan in any case; what the machine has no device for does not fit.
PlacementPlan planned(const Options& options, const ModelView& model, RunSettings& settings,
                      const PlacementRequest& request, const std::optional<MachineSpec>& spec) {
  try {
    return plan_of_run(options, model, settings, request, spec);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    return plan_of_none(options, model, settings, spec, error.what());
  }
}

/// The options that are no defaults, with who gave them.
std::vector<PlanSetting> given_settings(const Options& options) {
  std::vector<PlanSetting> given;
  for (const OptionSpec& spec : option_table()) {
    if (!applies_to(spec, options.command()) || !options.is_set(spec.name)) continue;
    given.push_back({std::string(spec.name), join(options.get_list(spec.name), " "),
                     options.source_text(spec.name)});
  }
  return given;
}

void save(const Options& options, const PlacementRequest& request, const PlacementPlan& plan) {
  const std::string text = saved_plan(options, request, plan).dump(2) + "\n";
  OutputFile file(options.get("save"));
  file.write(text.data(), text.size());
  file.close();
}

}  // namespace

void plan(const Options& options) {
  const PlacementRequest request = placement_request(options);
  const std::optional<MachineSpec> spec = described(options);
  RunSettings settings = run_settings(options);
  const ModelHeaders model(model_path(options), expert_groups(options));
  if (options.is_set("save")) check_outputs(options, model.file, {"save"}, {"config", "machine"});
  PlacementPlan plan = planned(options, model, settings, request, spec);
  if (!spec) {
    for (std::string& note : thread_notes(options)) plan.machine.notices.push_back(std::move(note));
  }
  const uint32_t largest =
      plan.refusal.empty() ? largest_context(model, settings, plan.rules, plan.machine) : 0;
  const PlanContext context{largest, given_settings(options)};
  if (options.is_set("save")) save(options, request, plan);
  if (options.get_toggle("json")) {
    print(plan_json(model, plan, context).dump(2) + "\n");
  } else {
    print(plan_text(model, plan, context));
  }
}

}  // namespace hybrid::commands
