#include "numa/gpu_info.h"

#include <algorithm>
#include <fstream>
#include <system_error>

namespace hybrid {
namespace fs = std::filesystem;
namespace {

/// "0x10de" or "-1"; -1 where it cannot be read.
long number_in(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  if (!(in >> word)) return -1;
  return std::strtol(word.c_str(), nullptr, 0);
}

}  // namespace

bool is_gpu(uint32_t pci_class, uint32_t vendor_id) {
  constexpr uint32_t kClasses[] = {0x0300, 0x0302, 0x0380, 0x1200};  // VGA, 3D, display, compute
  constexpr uint32_t kControllers[] = {0x1a03, 0x102b, 0x19e5};      // ASPEED, Matrox, Huawei
  const auto has = [](const auto& list, uint32_t id) {
    return std::find(std::begin(list), std::end(list), id) != std::end(list);
  };
  return has(kClasses, pci_class) && !has(kControllers, vendor_id);
}

std::vector<GpuInfo> gpus_in_sysfs(const fs::path& devices) {
  std::vector<GpuInfo> gpus;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(devices, ignored)) {
    const fs::path& device = entry.path();
    const long pci_class = number_in(device / "class"), vendor = number_in(device / "vendor");
    if (pci_class < 0 || vendor < 0) continue;
    const auto vendor_id = static_cast<uint32_t>(vendor);
    if (!is_gpu(static_cast<uint32_t>(pci_class) >> 8, vendor_id)) continue;
    const std::string address = device.filename().string();
    gpus.push_back({.pci_address = address,
                    .vendor_id = vendor_id,
                    .device_id = static_cast<uint32_t>(number_in(device / "device")),
                    .name = nvidia_model_name(address),
                    .node = static_cast<int>(number_in(device / "numa_node"))});
  }
  std::sort(gpus.begin(), gpus.end(),
            [](const GpuInfo& a, const GpuInfo& b) { return a.pci_address < b.pci_address; });
  return gpus;
}

std::string nvidia_model_name(const std::string& pci_address) {
  std::ifstream file("/proc/driver/nvidia/gpus/" + pci_address + "/information");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Model:")) continue;
    const size_t first = line.find_first_not_of(" \t", 6);
    if (first != std::string::npos) return line.substr(first);
  }
  return {};
}

}  // namespace hybrid
