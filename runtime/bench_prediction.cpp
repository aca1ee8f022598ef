#include "runtime/bench_prediction.h"

#include "placement/lane_model.h"

namespace hybrid {

PlanMachine machine_with_rates(double bandwidth_bytes_per_s, std::vector<MeasuredRate> rates) {
  PlanMachine machine = this_machine();
  machine.devices.front().speed = {.read_rate = bandwidth_bytes_per_s,
                                   .disk_rate = bandwidth_bytes_per_s,
                                   .rates = RateTable(std::move(rates))};
  return machine;
}

double predicted_tps(const ModelHeaders& headers, RunSettings settings,
                     const std::vector<PlacementRule>& rules, const PlanMachine& machine,
                     const BenchTest& test) {
  settings.n_ctx = test.n_ctx();
  const PlacementPlan plan = plan_placement(headers, settings, rules, machine);
  const LaneModel lanes(plan.input.model, plan.devices);
  const Placement& placement = plan.fit.placement;
  double seconds = 0;
  for (uint32_t i = 0; i < test.n_gen; ++i) {
    seconds += lanes.token(placement, uint64_t{test.n_depth} + i).seconds;
  }
  if (test.n_prompt > 0) {
    seconds = lanes.prompt(placement, 0, test.n_prompt, plan.run.sequence.prompt_cut()).seconds;
  }
  return test.n_timed() / seconds;
}

}  // namespace hybrid
