#pragma once
// What a config file says of placement: its keys "rules" and "devices". docs/config.md describes
// them, and configs/schema.json is their schema.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "placement/json_node.h"
#include "placement/rules.h"

namespace hybrid {

/// What may be taken of a device's memory.
struct DeviceBudget {
  DeviceName device;
  uint64_t budget_bytes = 0;

  bool operator==(const DeviceBudget&) const = default;
};

struct PlacementConfig {
  std::vector<PlacementRule> rules;   // origin: "rules[2] of FILE"
  std::vector<DeviceBudget> devices;  // each device once

  bool operator==(const PlacementConfig&) const = default;
};

inline constexpr std::string_view kPlacementKeys[] = {"rules", "devices"};

/// Reads kPlacementKeys of a config's root; each may be missing, and other keys are the caller's.
/// Throws Error with the place in the file, also for an expression that is none.
PlacementConfig read_placement_config(const JsonNode& root);

/// The inverse: reads back equal, but for the rules' origins. Throws Error for a pattern that JSON
/// cannot hold because it is not UTF-8.
nlohmann::ordered_json config_json(const PlacementConfig& config);

}  // namespace hybrid
