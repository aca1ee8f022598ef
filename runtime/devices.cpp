#include "runtime/devices.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "runtime/cuda_devices.h"
#include "runtime/simulated_ops.h"

namespace hybrid {
namespace {

class SimulatedModelDevice : public ModelDevice {
 public:
  explicit SimulatedModelDevice(SimulatedOptions options)
      : host_clock_(options.host_clock), device_(std::move(options)) {}

  Device& device() override { return device_; }
  HostClock* host_clock() override { return host_clock_.get(); }
  DeviceLayout layout() const override { return DeviceLayout::as_on_cpu; }
  std::unique_ptr<LayerOps> make_ops(DeviceStream& stream, const ModelConfig& config,
                                     const SequencePlan& plan, Trace* trace) override {
    return std::make_unique<SimulatedOps>(device_, dynamic_cast<SimulatedStream&>(stream), config,
                                          plan, trace);
  }

 private:
  std::shared_ptr<HostClock> host_clock_;
  SimulatedDevice device_;
};

DeviceRates rates_of(const DeviceSpeed& speed) {
  return {.memory_bytes_per_s = speed.read_rate,
          .multiply_adds_per_s = speed.flop_rate / 2,
          .link_bytes_per_s = speed.link_rate,
          .launch_s = 0,
          .copy_s = speed.hop_seconds};
}

DeviceName parse_one(const std::string& word) {
  std::optional<DeviceName> device;
  if (word == "sim") device = DeviceName{DeviceKind::sim, 0};
  if (word.starts_with("sim:")) device = parse_device("SIM" + word.substr(4));
  if (word.starts_with("cuda:")) device = parse_device("CUDA" + word.substr(5));
  if (!device) {
    fail("--device: expected all, none, or a list of cuda:N or of sim, sim:N, found '{}'",
         printable(word));
  }
  return *device;
}

}  // namespace

std::vector<DeviceName> parse_devices(std::string_view text) {
  if (text == "none") return {};
  std::vector<DeviceName> devices;
  for (const std::string& word : split(text, ',')) {
    const DeviceName device = parse_one(word);
    if (std::ranges::find(devices, device) != devices.end()) {
      fail("--device: {} is there twice", text_of(device));
    }
    if (!devices.empty() && devices.front().kind != device.kind) {
      fail("--device: simulated devices and GPUs cannot run together");
    }
    devices.push_back(device);
  }
  return devices;
}

std::unique_ptr<ModelDevice> make_simulated_device(SimulatedOptions options) {
  return std::make_unique<SimulatedModelDevice>(std::move(options));
}

ModelDevices open_devices(const PlanMachine& machine) {
  ModelDevices devices;
  const DeviceSpeed& cpu = machine.devices.front().speed;
  const auto host_clock = std::make_shared<HostClock>(rates_of(cpu));
  for (size_t i = 1; i < machine.devices.size(); ++i) {
    const PlanDevice& d = machine.devices[i];
    if (d.name.kind == DeviceKind::cuda) {
      devices.push_back(open_cuda_device(d.name.index, d.budget_bytes));
      continue;
    }
    HYBRID_CHECK(d.name.kind == DeviceKind::sim);
    devices.push_back(make_simulated_device({.index = d.name.index,
                                             .capacity_bytes = d.budget_bytes,
                                             .rates = rates_of(d.speed),
                                             .host_clock = host_clock}));
  }
  return devices;
}

}  // namespace hybrid
