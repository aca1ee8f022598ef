#include "runtime/commands/command.h"
#include "runtime/plan_report.h"

namespace hybrid::commands {

void plan(const Options& options) {
  const RunSettings settings = run_settings(options);
  const ModelHeaders model(model_path(options), expert_groups(options));
  const PlanMachine machine = this_machine();
  const std::vector<PlacementRule> rules;
  const PlacementPlan plan = plan_placement(model, settings, rules, machine);
  const uint32_t largest = largest_context(model, settings, rules, machine);
  if (options.get_toggle("json")) {
    print(plan_json(model, plan, largest).dump(2) + "\n");
  } else {
    print(plan_text(model, plan, largest));
  }
}

}  // namespace hybrid::commands
