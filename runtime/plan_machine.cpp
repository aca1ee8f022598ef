#include "runtime/plan_machine.h"

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
  return machine;
}

}  // namespace hybrid
