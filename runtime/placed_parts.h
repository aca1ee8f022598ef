#pragma once
// From a placement of tensors to one of the parts that a run computes as wholes.

#include <string>

#include "runtime/model_placement.h"
#include "runtime/placement_input.h"

namespace hybrid {

/// Device d of the placement is processor d. `reason`: why no run can do it, because tensors of a
/// part lie apart; "" where it can.
ModelPlacement model_placement(const PlacementInput& input, const Placement& placement,
                               uint32_t n_devices, std::string& reason);

/// What a processor computes, for a person: "attention of layers 0-5, routed experts of 1-5, the
/// output"; "nothing".
std::string parts_text(const ModelPlacement& where, uint32_t processor, uint32_t n_dense_lead,
                       bool has_shared);

}  // namespace hybrid
