#include "base/error.h"
#include "base/text.h"

#include <nlohmann/json.hpp>
#include "runtime/commands/command.h"
#include "runtime/plan_report.h"
#include "runtime/saved_plan.h"

namespace hybrid::commands {
namespace {

PlanMachine machine_of(const Options& options, const ExecutionOptions& execution,
                       const std::vector<DeviceName>& devices) {
  const auto file = options.find("machine");
  if (file) {
    const NumaMode mode = numa_mode(options);
    if (mode == NumaMode::numactl) {
      fail_usage("--numa numactl is of a launch, which a described machine has none of; give {}",
                 "distribute, isolate or off");
    }
    return described_machine(read_machine(*file), mode);
  }
  return with_stored_rates(this_machine(devices), execution.n_threads, execution.n_threads_batch);
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
  RunSettings settings = run_settings(options);
  PlanMachine machine =
      with_budgets(machine_of(options, settings.execution, request.devices), request);
  if (!machine.is_described()) {
    for (std::string& note : thread_notes(options)) machine.notices.push_back(std::move(note));
  }
  if (machine.is_described() && !options.is_set("threads")) {
    settings.execution.n_threads = static_cast<int>(machine.n_cores);
    if (!options.is_set("threads-batch")) {
      settings.execution.n_threads_batch = settings.execution.n_threads;
    }
  }
  settings.execution.n_in_flight = machine.has_accelerators() ? 2 : 1;
  const ModelHeaders model(model_path(options), expert_groups(options));
  if (options.is_set("save")) check_outputs(options, model.file, {"save"}, {"config", "machine"});
  const std::vector<PlacementRule> rules = request.all_rules(model.config.n_layers, machine);
  const PlacementPlan plan = plan_placement(model, settings, rules, machine);
  const PlanContext context{largest_context(model, settings, rules, machine),
                            given_settings(options)};
  if (options.is_set("save")) save(options, request, plan);
  if (options.get_toggle("json")) {
    print(plan_json(model, plan, context).dump(2) + "\n");
  } else {
    print(plan_text(model, plan, context));
  }
}

}  // namespace hybrid::commands
