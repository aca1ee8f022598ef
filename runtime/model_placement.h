#pragma once
// Which processor computes which part of a model. Processor 0 is the CPU, processor i the device
// i - 1 of the model's devices (devices.h).

#include <cstdint>
#include <string>
#include <vector>

namespace hybrid {

struct LayerPlacement {
  uint32_t home = 0;         // attention, norms and router; the layer's cache lies there
  uint32_t net = 0;          // the dense net, or the shared expert
  uint32_t routed = 0;       // the routed experts
  uint32_t cache_layer = 0;  // which of home's cached layers this is
};

struct ModelPlacement {
  std::vector<LayerPlacement> layers;
  uint32_t embedding = 0;
  uint32_t output = 0;
  uint32_t n_processors = 1;

  static ModelPlacement on_cpu(uint32_t n_layers);

  /// Numbers each processor's cached layers, in their order.
  void number_cache_layers();
  /// How many layers have their home there.
  uint32_t n_cached_layers(uint32_t processor) const;
};

}  // namespace hybrid
