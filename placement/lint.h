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
  const FixedPieces& fixed;                             // what rules decided
  const std::vector<std::optional<uint32_t>>& rule_of;  // [pieces]: index of the rule that did
  uint32_t n_ubatch = 512;                              // of prefill
  const std::vector<uint64_t>& node_bytes;              // of each NUMA node of the CPU's memory
  uint64_t cpu_bytes = 0;                               // that the CPU is to hold
};

/// In the order of rules, then of layers; a finding of the same kind in many layers is one. Places
/// everything anew without each rule on routed experts, so it is not for inner loops.
std::vector<std::string> lint_placement(const LintInput& in);

}  // namespace hybrid
