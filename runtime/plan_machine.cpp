#include "runtime/plan_machine.h"

#include <fmt/format.h>

#include "base/error.h"
#include "numa/memory_info.h"

namespace hybrid {
namespace {

std::string device_list(const PlanMachine& machine) {
  std::string list;
  for (const PlanDevice& d : machine.devices) {
    list += (list.empty() ? "" : ", ") + text_of(d.name);
  }
  return list;
}

/// "CPU 460 GB/s and 12.0 TFLOP/s", and what of it is not known.
std::string rates_text(const PlanDevice& device, bool is_known) {
  std::string text = fmt::format("{} {:.0f} GB/s{}", text_of(device.name), device.read_rate * 1e-9,
                                 is_known ? "" : " (a default)");
  if (device.flop_rate > 0) text += fmt::format(" and {:.1f} TFLOP/s", device.flop_rate * 1e-12);
  return text;
}

}  // namespace

uint32_t PlanMachine::index_of(DeviceName device, const std::string& what) const {
  for (uint32_t d = 0; d < devices.size(); ++d) {
    if (devices[d].name == device) return d;
  }
  fail("{}: {} has no {}, its devices are: {}{}", what,
       is_described() ? printable(name) : "this machine", text_of(device), device_list(*this),
       is_described() ? "" : "; `plan --machine FILE` plans for another machine");
}

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

PlanMachine described_machine(const MachineSpec& spec) {
  PlanMachine machine{.name = spec.name, .devices = {}, .n_cores = spec.cpu.n_cores};
  const auto add = [&](PlanDevice device, uint64_t n_bytes) {
    device.capacity_bytes = device.total_bytes = device.budget_bytes = n_bytes;
    machine.devices.push_back(std::move(device));
  };
  const auto& cpu_rate = spec.cpu.bandwidth_bytes_per_s;
  add({.name = {},
       .read_rate = cpu_rate.value_or(kDefaultCpuReadRate),
       .flop_rate = spec.cpu.prefill_flop_per_s.value_or(0)},
      spec.cpu.memory_bytes);
  machine.basis = "The basis: " + rates_text(machine.devices.front(), cpu_rate.has_value());
  for (const MachineGpu& gpu : spec.gpus) {
    const auto index = static_cast<uint32_t>(machine.devices.size() - 1);
    add({.name = {DeviceKind::cuda, index},
         .label = gpu.name,
         .read_rate = gpu.bandwidth_bytes_per_s.value_or(kDefaultGpuReadRate),
         .link_rate = gpu.pcie_bytes_per_s.value_or(kDefaultLinkRate),
         .flop_rate = gpu.flop_per_s.value_or(0),
         .hop_seconds = kHopSeconds},
        gpu.memory_bytes);
    if (index > 0 && gpu == spec.gpus[index - 1]) continue;
    machine.basis +=
        ", " + rates_text(machine.devices.back(), gpu.bandwidth_bytes_per_s.has_value());
  }
  return machine;
}

}  // namespace hybrid
