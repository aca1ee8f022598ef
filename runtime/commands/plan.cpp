#include "numa/memory_info.h"
#include "runtime/commands/command.h"
#include "runtime/plan_report.h"

namespace hybrid::commands {

void plan(const Options& options) {
  const RunSettings settings = run_settings(options);
  const ModelHeaders model(model_path(options), expert_groups(options));
  const RunPlan plan = plan_run(model.file, model.config, model.weights, settings);
  const MachineMemory memory{total_memory_bytes(), available_memory_bytes()};
  if (options.get_toggle("json")) {
    print(plan_json(model, plan, memory).dump(2) + "\n");
  } else {
    print(plan_text(model, plan, memory));
  }
}

}  // namespace hybrid::commands
