#include "runtime/model_placement.h"

#include <algorithm>

namespace hybrid {

bool LayerPlacement::has_routed(uint32_t processor) const {
  if (split.empty()) return routed == processor;
  return std::ranges::any_of(split,
                             [&](const PlacedExperts& p) { return p.processor == processor; });
}

ModelPlacement ModelPlacement::on_cpu(uint32_t n_layers) {
  ModelPlacement placement;
  placement.layers.resize(n_layers);
  placement.number_cache_layers();
  return placement;
}

void ModelPlacement::number_cache_layers() {
  std::vector<uint32_t> n_layers(n_processors);
  for (LayerPlacement& layer : layers) layer.cache_layer = n_layers[layer.home]++;
}

uint32_t ModelPlacement::n_cached_layers(uint32_t processor) const {
  return static_cast<uint32_t>(std::ranges::count(layers, processor, &LayerPlacement::home));
}

}  // namespace hybrid
