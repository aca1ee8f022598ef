#pragma once
// The GPUs of the machine as PCI shows them, without a driver: where they are, not what they can.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hybrid {

struct GpuInfo {
  std::string pci_address;  // "0000:41:00.0"
  uint32_t vendor_id = 0, device_id = 0;
  std::string name;  // "NVIDIA H100 PCIe"; "" where nothing tells it
  int node = -1;     // the memory node it is at; -1: the firmware does not say

  bool operator==(const GpuInfo&) const = default;
};

/// Whether a PCI device of this class (of 16 bits, 0x0302) and vendor is a GPU. Display chips of
/// servers' management controllers, which nearly every server has, are none.
bool is_gpu(uint32_t pci_class, uint32_t vendor_id);

/// The GPUs below `devices` (/sys/bus/pci/devices), by address; none where it cannot be read.
std::vector<GpuInfo> gpus_in_sysfs(const std::filesystem::path& devices);

/// The name that NVIDIA's driver gives the GPU at an address; "" without it.
std::string nvidia_model_name(const std::string& pci_address);

}  // namespace hybrid
