#include "runtime/plan_report.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "runtime/plan_facts.h"

namespace hybrid {
namespace {

/// Tensors whose data the files end before.
uint64_t n_without_data(const GgufFile& file) {
  return static_cast<uint64_t>(
      std::count_if(file.tensors().begin(), file.tensors().end(), [&](const GgufTensor& t) {
        return t.info.offset + t.info.n_bytes > file.parts()[t.part].n_bytes;
      }));
}

}  // namespace

std::vector<std::string> plan_warnings(const ModelHeaders& model, const PlacementPlan& plan) {
  std::vector<std::string> all = plan.findings;
  all.insert(all.end(), plan.machine.notices.begin(), plan.machine.notices.end());
  if (const auto kinds = unmeasured_kinds(plan); !kinds.empty()) {
    all.push_back(fmt::format("predicted with the slowest rates of other types: {}; {}",
                              join(kinds, ", "),
                              plan.machine.is_described() ? "the machine file has none of it"
                                                          : "`bench` with this model measures it"));
  }
  const uint32_t n_ctx = plan.run.sequence.n_ctx;
  if (n_ctx > model.config.n_ctx_train) {
    all.push_back(fmt::format("the context of {} exceeds the {} tokens the model was trained for",
                              n_ctx, model.config.n_ctx_train));
  }
  const uint64_t needed = plan.loads.front().n_bytes(),
                 mapped = cpu_weights(plan).mapped + plan.disk_bytes;
  const uint64_t capacity = plan.machine.devices.front().capacity_bytes;
  if (needed <= capacity && mapped > capacity - needed) {
    all.push_back(fmt::format(
        "{} of mapped weights do not stay in memory beside the rest: parts of the file are read "
        "again and again",
        format_bytes(mapped)));
  }
  if (const uint64_t n = n_without_data(model.file); n > 0) {
    all.push_back(
        fmt::format("the file ends before the data of {} tensors; `run` needs all of it", n));
  }
  return all;
}

}  // namespace hybrid
