#pragma once
// A plan as a config file that reproduces it.

#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string_view>

#include "runtime/options.h"
#include "runtime/placement_plan.h"
#include "runtime/placement_request.h"

namespace hybrid {

/// The plan's rules, and behind them rules that put everything else where the plan has it.
std::vector<PlacementRule> reproducing_rules(const PlacementPlan& plan);

/// The options that were given or tuned, as a config has them, without those of these names.
nlohmann::ordered_json given_options(const Options& options,
                                     const std::set<std::string_view>& left_out);

/// The options that were given, the context, these rules and the budgets of `request`.
nlohmann::ordered_json saved_plan(const Options& options, const PlacementRequest& request,
                                  const PlacementPlan& plan);

}  // namespace hybrid
