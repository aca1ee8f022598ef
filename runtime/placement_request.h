#pragma once
// What a person asks of placement: rules, shorthands and budgets, before a model and a machine are
// known.

#include <vector>

#include "placement/config.h"
#include "runtime/plan_machine.h"

namespace hybrid {

struct PlacementRequest {
  std::vector<PlacementRule> rules = {};  // of -ot
  PlacementShorthands shorthands = {};
  std::vector<PlacementRule> file_rules = {};  // of the config file
  std::vector<DeviceBudget> budgets = {};
  std::vector<DeviceName> devices = {};  // beside the CPU
  bool devices_are_found = false;        // nobody named them: they are left out where a run cannot
                                         // use them

  /// All rules in the order in which they decide: -ot's, those that the shorthands stand for, the
  /// file's. Throws Error for shorthands or rules that need a device the machine does not have.
  std::vector<PlacementRule> all_rules(uint32_t n_layers, const PlanMachine& machine) const;
};

/// The machine with the request's budgets, where they are below what its devices have. Throws Error
/// for a budget of a device that it does not have.
PlanMachine with_budgets(PlanMachine machine, const PlacementRequest& request);

}  // namespace hybrid
