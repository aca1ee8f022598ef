#pragma once
// Which processor computes which part of a model. Processor 0 is the CPU, processor i the device
// i - 1 of the model's devices (devices.h).

#include <cstdint>
#include <string>
#include <vector>

namespace hybrid {

/// Experts [first, first + n) of a layer.
struct PlacedExperts {
  uint32_t processor = 0;
  uint32_t first = 0;
  uint32_t n = 0;

  bool operator==(const PlacedExperts&) const = default;
};

struct LayerPlacement {
  uint32_t home = 0;         // attention, norms and router; the layer's cache lies there
  uint32_t net = 0;          // the dense net, or the shared expert
  uint32_t routed = 0;       // the routed experts; where they are split, who sums: the CPU
  uint32_t cache_layer = 0;  // which of home's cached layers this is
  /// Empty, or the routed experts of several processors, ascending; a device has one range.
  std::vector<PlacedExperts> split = {};

  /// Of part i of the layer's weights.
  uint32_t processor_of_part(size_t i) const { return split.empty() ? routed : split[i].processor; }
  /// Whether it has routed experts of this layer.
  bool has_routed(uint32_t processor) const;
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
