#include "runtime/placement_request.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {

std::vector<PlacementRule> PlacementRequest::all_rules(uint32_t n_layers,
                                                       const PlanMachine& machine) const {
  std::vector<DeviceName> gpus;
  for (const PlanDevice& d : machine.devices) {
    if (d.name.is_accelerator()) gpus.push_back(d.name);
  }
  std::vector<PlacementRule> all = rules;
  for (const auto& more : {shorthand_rules(shorthands, n_layers, gpus), file_rules}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  for (const PlacementRule& rule : all) {
    machine.index_of(rule.device, rule.origin + ": " + rule.text());
  }
  return all;
}

PlanMachine with_budgets(PlanMachine machine, const PlacementRequest& request) {
  for (const DeviceBudget& budget : request.budgets) {
    PlanDevice& device = machine.devices[machine.index_of(budget.device, "devices")];
    device.budget_bytes = std::min(device.budget_bytes, budget.budget_bytes);
  }
  return machine;
}

}  // namespace hybrid
