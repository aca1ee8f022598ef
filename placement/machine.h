#pragma once
// A machine as a file describes it, so that a model can be planned for one that is not here.
// docs/config.md has an example, configs/machine.schema.json is the schema.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "placement/rates.h"
#include "tensor/simd_level.h"

namespace hybrid {

// Rates are what is reached, not what a data sheet promises; nothing where they are unknown.

struct MachineCpu {
  uint32_t n_sockets = 0;
  uint32_t n_cores = 0;  // of all sockets together
  SimdLevel isa = SimdLevel::scalar;
  uint64_t memory_bytes = 0;
  std::vector<uint64_t> node_memory_bytes;  // of each NUMA node; empty where the file is silent
  std::optional<double> bandwidth_bytes_per_s;
  // Instead of it: what the cores of each node read of their own memory, all at once, and those of
  // one node of another's. Empty and nothing where the file is silent; there together.
  std::vector<double> node_bandwidth_bytes_per_s = {};
  std::optional<double> remote_bytes_per_s = {};
  std::optional<double> prefill_flop_per_s;
  std::optional<double> disk_bytes_per_s;  // of the disk that models lie on
  std::vector<MeasuredRate> rates;         // of its kernels: instead of both, where they are known

  bool operator==(const MachineCpu&) const = default;
};

struct MachineGpu {
  std::string name;
  uint64_t memory_bytes = 0;
  std::optional<double> bandwidth_bytes_per_s;  // of its own memory
  std::optional<double> flop_per_s;
  std::optional<double> pcie_bytes_per_s;  // between its memory and the CPU's, one way
  std::vector<DType> types;                // that it has kernels for; empty where all

  bool operator==(const MachineGpu&) const = default;
};

struct MachineSpec {
  std::string name;
  MachineCpu cpu;
  std::vector<MachineGpu> gpus;

  bool operator==(const MachineSpec&) const = default;
};

/// Throws Error with the place in the file for what is not a machine.
MachineSpec read_machine(const std::string& path);

}  // namespace hybrid
