#pragma once
// The devices that a plan may use: those of this machine, or of one that a file describes.

#include <string>
#include <vector>

#include "numa/node_plan.h"
#include "placement/machine.h"
#include "placement/placement_model.h"
#include "runtime/device_layout.h"

namespace hybrid {

struct PlanDevice {
  DeviceName name;
  std::string label = {};       // "RTX 4090"
  uint64_t capacity_bytes = 0;  // its memory; of this machine's CPU what is available now
  uint64_t total_bytes = 0;     // the same without what others hold
  uint64_t budget_bytes = 0;    // what the plan may take of it
  DeviceSpeed speed = {};
  std::vector<DType> types = {};  // see PlacementDevice
};

struct PlanMachine {
  std::string name = {};                  // "" for this one
  std::vector<PlanDevice> devices;        // the CPU first
  std::string basis = {};                 // where rates come from, for a person
  bool is_disk_known = false;             // whether the disk's rate is no default
  std::vector<std::string> notices = {};  // of rates that are there and not used
  uint32_t n_cores = 0;                   // of a described machine
  std::vector<uint64_t> node_bytes = {};  // memory of its NUMA nodes, where that is described

  bool is_described() const { return !name.empty(); }
  bool has_accelerators() const { return devices.size() > 1; }
  /// How weights lie on them.
  DeviceLayout layout() const;
  /// DISK is the CPU's: it multiplies with what stays in the mapped file. Throws Error for a device
  /// that is not there; `what` asks for it.
  uint32_t index_of(DeviceName device, const std::string& what) const;
};

// What running takes of a GPU beside weights, cache and the buffers of a micro-batch. Of this
// machine's GPUs the context is there when they are asked how much is free.
inline constexpr uint64_t kGpuContextBytes = uint64_t{512} << 20;  // CUDA's context and its code
inline constexpr uint64_t kGpuMarginBytes = uint64_t{256} << 20;   // a display, fragments

// Where a machine's rates are not known: those of common parts of its class.
inline constexpr double kDefaultCpuReadRate = 40e9;   // two channels of DDR4 or a part of more
inline constexpr double kDefaultGpuReadRate = 500e9;  // GDDR6
inline constexpr double kDefaultGpuFlopRate = 50e12;  // bf16, as kernels reach it
inline constexpr double kDefaultLinkRate = 12e9;      // PCIe 3 x16 or 4 x8
inline constexpr double kDefaultDiskRate = 2e9;       // an NVMe disk, read page by page
inline constexpr double kHopSeconds = 15e-6;          // a transfer's launch and wait

/// This machine: its CPU with the memory that is available, and the devices that are asked for.
/// Simulated ones take half of it, in equal shares; these and GPUs have the default rates of a GPU.
/// Throws Error where a GPU is not there.
PlanMachine this_machine(const std::vector<DeviceName>& devices = {});

/// The same with the rates that are stored for so many threads (stored_rates.h), where they are:
/// for single tokens and for micro-batches each its own.
PlanMachine with_stored_rates(PlanMachine machine, int n_threads, int n_threads_batch);

/// A machine that a file describes, with defaults of its class for rates that it leaves out.
///
/// Where it has the bandwidth of nodes, `mode` says what is read how fast (node_rates.h); it must
/// not be numactl, which is of a launch. Throws Error where the file does not say enough for a mode
/// that is not automatic.
PlanMachine described_machine(const MachineSpec& spec, NumaMode mode = NumaMode::automatic);

}  // namespace hybrid
