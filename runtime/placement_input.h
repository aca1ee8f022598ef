#pragma once
// What placement needs to know of a model: its tensors as pieces, in the layouts that a run would
// give them, and what rules say of each.

#include <string>
#include <vector>

#include "placement/inventory.h"
#include "placement/placement_model.h"
#include "runtime/device_layout.h"
#include "runtime/run_plan.h"

namespace hybrid {

struct PlacementInput {
  std::vector<InventoryTensor> inventory;  // in the order of the file
  PlacementModel model;
  std::vector<WeightBytes> cpu_weights;          // [pieces]: what each is on the CPU
  std::vector<std::optional<uint32_t>> rule_of;  // [pieces]: index of the rule that decided
  std::vector<uint32_t> n_matched;               // [rules]: tensors whose names a rule matches
  std::vector<uint32_t> n_decided;               // [rules]: of them, those it decided about
};

/// Tensors that the model has no use for are no pieces. `layout`: how weights lie on the machine's
/// accelerators. Throws Error for a range of experts that a layer does not have.
PlacementInput make_placement_input(const ModelView& view, const RunPlan& plan,
                                    std::span<const PlacementRule> rules,
                                    DeviceLayout layout = DeviceLayout::panels);

}  // namespace hybrid
