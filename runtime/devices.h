#pragma once
// The devices beside the CPU: those that a person names, and the same opened for use.

#include <string_view>
#include <vector>

#include "runtime/model_device.h"
#include "runtime/plan_machine.h"
#include "tensor/simulated_device.h"

namespace hybrid {

/// "none", or a list of "sim" (sim:0), "sim:N", "cuda:N"; each once. Throws Error for anything
/// else.
std::vector<DeviceName> parse_devices(std::string_view text);

/// The value of --device that stands for all GPUs that are found.
inline constexpr std::string_view kAllDevices = "all";

/// A simulated device for models.
std::unique_ptr<ModelDevice> make_simulated_device(SimulatedOptions options);

/// The machine's devices beside its CPU, with its budgets as their capacity.
ModelDevices open_devices(const PlanMachine& machine);

}  // namespace hybrid
