#pragma once
// A device as models use it: its memory and queues (tensor/device.h), the operations of layers on
// it, and how weights lie there.

#include <memory>
#include <vector>

#include "runtime/device_layout.h"
#include "runtime/layer_ops.h"
#include "runtime/sequence_plan.h"
#include "tensor/device.h"

namespace hybrid {

class HostClock;

class ModelDevice {
 public:
  virtual ~ModelDevice() = default;
  virtual Device& device() = 0;

  /// Where the host's time is modelled beside it; null: it is not.
  virtual HostClock* host_clock() { return nullptr; }

  /// How weights lie in its memory.
  virtual DeviceLayout layout() const = 0;

  /// Operations that are queued in `stream`, which outlives them, as config, plan and trace (which
  /// may be null) do.
  virtual std::unique_ptr<LayerOps> make_ops(DeviceStream& stream, const ModelConfig& config,
                                             const SequencePlan& plan, Trace* trace) = 0;
};

/// Device i is processor i + 1 of a ModelPlacement.
using ModelDevices = std::vector<std::unique_ptr<ModelDevice>>;

}  // namespace hybrid
