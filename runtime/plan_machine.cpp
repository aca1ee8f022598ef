#include "runtime/plan_machine.h"

#include <fmt/format.h>

#include "numa/memory_info.h"

namespace hybrid {

PlanMachine this_machine() {
  PlanMachine machine;
  const uint64_t available = available_memory_bytes();
  machine.devices.push_back({.name = {},
                             .capacity_bytes = available,
                             .total_bytes = total_memory_bytes(),
                             .budget_bytes = available,
                             .read_rate = kDefaultCpuReadRate});
  machine.basis = fmt::format(
      "The basis: {:.0f} GB/s, a default of its class: no rates are stored for this machine, and "
      "`plan` measures none; `bench` measures",
      kDefaultCpuReadRate * 1e-9);
  return machine;
}

}  // namespace hybrid
