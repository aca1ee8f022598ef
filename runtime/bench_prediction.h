#pragma once
// What the cost model says of a test of `bench`, from rates that were measured beside it.

#include "runtime/bench.h"
#include "runtime/placement_plan.h"

namespace hybrid {

/// This machine with these rates and nothing else.
PlanMachine machine_with_rates(double bandwidth_bytes_per_s, std::vector<MeasuredRate> rates);

/// Tokens per second; 0 where a rate is not known. settings.n_ctx may be anything.
double predicted_tps(const ModelHeaders& headers, RunSettings settings,
                     const std::vector<PlacementRule>& rules, const PlanMachine& machine,
                     const BenchTest& test);

}  // namespace hybrid
