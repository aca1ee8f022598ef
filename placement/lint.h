#pragma once
// What a person should know of rules and of what came of them: each finding names the rule or the
// tensor, and the mend.

#include <string>
#include <vector>

#include "placement/auto_fit.h"
#include "placement/inventory.h"

namespace hybrid {

struct LintInput {
  const std::vector<InventoryTensor>& inventory;
  const PlacementModel& model;
  const std::vector<PlacementDevice>& devices;
  const std::vector<PlacementRule>& rules;
  const std::vector<uint32_t>& n_matched;  // [rules]: tensors whose names a rule matches
  const std::vector<uint32_t>& n_decided;  // [rules]: of them, those it decided about
  const Placement& placement;
};

/// In the order of rules, then of layers; a finding of the same kind in many layers is one.
std::vector<std::string> lint_placement(const LintInput& in);

}  // namespace hybrid
