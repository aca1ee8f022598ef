#pragma once
// Which rule decides about a tensor, or about each of its experts.

#include <optional>
#include <span>
#include <vector>

#include "placement/inventory.h"
#include "placement/rules.h"
#include "runtime/plan_machine.h"
#include "runtime/weights.h"

namespace hybrid {

/// Experts of a tensor that one rule decides about, or none.
struct TensorPart {
  ExpertRange experts;
  std::optional<uint32_t> rule;
};

/// In the order of the experts; tensors without experts count as one. matches: of its name
/// (RuleMatcher). Throws Error for a range of experts that the tensor does not have.
std::vector<TensorPart> parts_of(const InventoryTensor& tensor,
                                 std::span<const PlacementRule> rules,
                                 const std::vector<uint32_t>& matches);

/// Whether experts of a layer may come to lie on several processors: some rule has a range of them,
/// and there are devices.
bool splits_experts(std::span<const PlacementRule> rules, const PlanMachine& machine);

/// Tensors that rules leave in the mapped file. Throws Error where rules divide a tensor's experts
/// between DISK and memory: packing takes whole tensors.
TensorSet tensors_on_disk(const GgufFile& file, std::span<const PlacementRule> rules);

}  // namespace hybrid
