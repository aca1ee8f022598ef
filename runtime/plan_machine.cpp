#include "runtime/plan_machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "numa/memory_info.h"
#include "placement/node_rates.h"
#include "runtime/cuda_devices.h"
#include "runtime/stored_rates.h"

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
  std::string text = fmt::format("{} {:.0f} GB/s{}", text_of(device.name),
                                 device.speed.read_rate * 1e-9, is_known ? "" : " (a default)");
  if (device.speed.flop_rate > 0)
    text += fmt::format(" and {:.1f} TFLOP/s", device.speed.flop_rate * 1e-12);
  if (!device.speed.rates.empty()) text += " and its measured rates";
  return text;
}

/// "measured at 2026-11-21T19:50Z with 2 threads"
std::string measured_text(const StoredRates& rates) {
  return fmt::format("measured on this machine at {} with {} ({})", rates.measured,
                     plural(rates.key.n_threads, "thread"),
                     printable(rates_path(rates.key).string(), 4096));
}

}  // namespace

uint32_t PlanMachine::index_of(DeviceName device, const std::string& what) const {
  if (device.kind == DeviceKind::disk) return 0;
  for (uint32_t d = 0; d < devices.size(); ++d) {
    if (devices[d].name == device) return d;
  }
  if (device.kind == DeviceKind::sim && !is_described()) {
    fail("{}: {} is not there; --device sim, or --device sim:0,sim:1 for two, simulates a device",
         what, text_of(device));
  }
  if (device.kind == DeviceKind::node || device.kind == DeviceKind::sim) {
    fail("{}: {} cannot be used in this version; devices of {} are: {}, DISK", what,
         text_of(device), is_described() ? printable(name) : "this machine", device_list(*this));
  }
  fail("{}: {} has no {}, its devices are: {}{}", what,
       is_described() ? printable(name) : "this machine", text_of(device), device_list(*this),
       is_described() ? "" : "; `plan --machine FILE` plans for another machine");
}

DeviceLayout PlanMachine::layout() const {
  const bool simulated = has_accelerators() && devices[1].name.kind == DeviceKind::sim;
  return simulated ? DeviceLayout::as_on_cpu : DeviceLayout::panels;
}

namespace {

DeviceSpeed default_gpu_speed() {
  return {.read_rate = kDefaultGpuReadRate,
          .link_rate = kDefaultLinkRate,
          .flop_rate = kDefaultGpuFlopRate,
          .hop_seconds = kHopSeconds};
}

PlanDevice gpu_of_this_machine(DeviceName name) {
  const CudaDeviceInfo info = cuda_device_info(name.index);
  return {.name = name,
          .label = printable(info.name),
          .capacity_bytes = info.free_bytes,
          .total_bytes = info.total_bytes,
          .budget_bytes = info.free_bytes,
          .speed = default_gpu_speed()};
}

}  // namespace

PlanMachine this_machine(const std::vector<DeviceName>& devices) {
  PlanMachine machine;
  const uint64_t all = available_memory_bytes();
  const auto is_simulated = [](const DeviceName& d) { return d.kind == DeviceKind::sim; };
  const auto n_simulated =
      static_cast<uint64_t>(std::count_if(devices.begin(), devices.end(), is_simulated));
  const uint64_t each = n_simulated == 0 ? 0 : all / 2 / n_simulated;
  const uint64_t available = all - each * n_simulated;
  machine.devices.push_back(
      {.name = {},
       .capacity_bytes = available,
       .total_bytes = total_memory_bytes(),
       .budget_bytes = available,
       .speed = {.read_rate = kDefaultCpuReadRate, .disk_rate = kDefaultDiskRate}});
  machine.basis = fmt::format(
      "The basis: {:.0f} GB/s, a default of its class: no rates are stored for this machine, its "
      "level and threads, and `plan` measures none; `bench` and `topology --measure` do",
      kDefaultCpuReadRate * 1e-9);
  for (const DeviceName& device : devices) {
    machine.devices.push_back(is_simulated(device) ? PlanDevice{.name = device,
                                                                .label = "simulated",
                                                                .capacity_bytes = each,
                                                                .total_bytes = each,
                                                                .budget_bytes = each,
                                                                .speed = default_gpu_speed()}
                                                   : gpu_of_this_machine(device));
  }
  return machine;
}

PlanMachine with_stored_rates(PlanMachine machine, int n_threads, int n_threads_batch) {
  const Cached<StoredRates> decode = find_rates(rates_key(n_threads));
  const Cached<StoredRates> prefill =
      n_threads == n_threads_batch ? decode : find_rates(rates_key(n_threads_batch));
  machine.notices = {decode.notice};
  if (n_threads != n_threads_batch) machine.notices.push_back(prefill.notice);
  std::erase(machine.notices, "");
  DeviceSpeed& cpu = machine.devices.front().speed;
  std::vector<MeasuredRate> rates;
  if (decode.value) {
    cpu.read_rate = decode.value->bandwidth_bytes_per_s;
    machine.basis = "The basis: rates " + measured_text(*decode.value) +
                    fmt::format(", {:.1f} GB/s read", cpu.read_rate * 1e-9);
    for (const MeasuredRate& r : decode.value->rates) {
      if (r.n_tokens == 1) rates.push_back(r);
    }
  }
  if (prefill.value) {
    for (const MeasuredRate& r : prefill.value->rates) {
      if (r.n_tokens > 1) rates.push_back(r);
    }
    if (n_threads != n_threads_batch) {
      machine.basis += "; for prefill " + measured_text(*prefill.value);
    }
  }
  cpu.rates = RateTable(std::move(rates));
  return machine;
}

namespace {

/// Of a described machine's CPU by --numa: its share of cores and memory, and how fast it reads.
struct UsedCpu {
  uint32_t n_cores = 0;
  uint64_t memory_bytes = 0;
  std::vector<uint64_t> node_bytes = {};
  std::optional<double> read_rate;
  double flop_rate = 0, meet_seconds = 0;
  std::string note = {};  // of the basis
};

UsedCpu used_cpu(const MachineSpec& spec, NumaMode mode) {
  const MachineCpu& cpu = spec.cpu;
  UsedCpu used{.n_cores = cpu.n_cores,
               .memory_bytes = cpu.memory_bytes,
               .node_bytes = cpu.node_memory_bytes,
               .read_rate = cpu.bandwidth_bytes_per_s,
               .flop_rate = cpu.prefill_flop_per_s.value_or(0)};
  const std::vector<double>& nodes = cpu.node_bandwidth_bytes_per_s;
  if (nodes.empty()) {
    if (mode == NumaMode::automatic) return used;
    fail(
        "--numa {}: {} does not say how fast its nodes read; give node_bandwidth_gbs and "
        "remote_bandwidth_gbs in its file",
        name_of(mode), printable(spec.name));
  }
  if (mode == NumaMode::automatic) mode = NumaMode::distribute;
  const NodeRates rates = node_rates(nodes, *cpu.remote_bytes_per_s, mode);
  used.read_rate = rates.read_rate;
  used.meet_seconds = rates.meet_seconds;
  used.note = fmt::format(" (--numa {}: {})", name_of(mode), rates.text);
  if (mode != NumaMode::isolate) return used;
  const auto n = static_cast<uint32_t>(nodes.size());
  used.n_cores = std::max(cpu.n_cores / n, 1u);
  used.memory_bytes =
      cpu.node_memory_bytes.empty() ? cpu.memory_bytes / n : cpu.node_memory_bytes[0];
  used.node_bytes.clear();
  used.flop_rate /= n;
  return used;
}

}  // namespace

PlanMachine described_machine(const MachineSpec& spec, NumaMode mode) {
  const UsedCpu cpu = used_cpu(spec, mode);
  PlanMachine machine{
      .name = spec.name, .devices = {}, .n_cores = cpu.n_cores, .node_bytes = cpu.node_bytes};
  const auto add = [&](PlanDevice device, uint64_t n_bytes) {
    device.capacity_bytes = device.total_bytes = device.budget_bytes = n_bytes;
    machine.devices.push_back(std::move(device));
  };
  machine.is_disk_known = spec.cpu.disk_bytes_per_s.has_value();
  add({.name = {},
       .speed = {.read_rate = cpu.read_rate.value_or(kDefaultCpuReadRate),
                 .flop_rate = cpu.flop_rate,
                 .disk_rate = spec.cpu.disk_bytes_per_s.value_or(kDefaultDiskRate),
                 .meet_seconds = cpu.meet_seconds,
                 .rates = RateTable(spec.cpu.rates)}},
      cpu.memory_bytes);
  machine.basis =
      "The basis: " + rates_text(machine.devices.front(), cpu.read_rate.has_value()) + cpu.note;
  for (const MachineGpu& gpu : spec.gpus) {
    const auto index = static_cast<uint32_t>(machine.devices.size() - 1);
    add({.name = {DeviceKind::cuda, index},
         .label = gpu.name,
         .speed = {.read_rate = gpu.bandwidth_bytes_per_s.value_or(kDefaultGpuReadRate),
                   .link_rate = gpu.pcie_bytes_per_s.value_or(kDefaultLinkRate),
                   .flop_rate = gpu.flop_per_s.value_or(0),
                   .hop_seconds = kHopSeconds},
         .types = gpu.types},
        gpu.memory_bytes);
    if (index > 0 && gpu == spec.gpus[index - 1]) continue;
    machine.basis +=
        ", " + rates_text(machine.devices.back(), gpu.bandwidth_bytes_per_s.has_value());
  }
  return machine;
}

}  // namespace hybrid
