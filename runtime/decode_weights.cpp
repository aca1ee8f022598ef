#include "runtime/decode_weights.h"

#include "base/error.h"
#include "base/units.h"
#include "numa/memory_info.h"

namespace hybrid {

void DecodeWeights::take(const MlaShape& mla, std::span<LayerWeights* const> layers) {
  uint64_t bytes = 0, panels = 0;
  for (const LayerWeights* w : layers) {
    bytes += mla_decode_bytes(mla, w->kv_up);
    panels += mla_decode_panels(mla, w->kv_up);
  }
  if (const uint64_t available = available_memory_bytes(); bytes + panels > available) {
    fail("not enough memory: the attention weights of single tokens need {}, available are {}",
         format_bytes(bytes + panels), format_bytes(available));
  }
  panels_ = HugeBuffer(bytes);
  exponents_.resize(panels);
  uint64_t at = 0, panel = 0;
  for (LayerWeights* w : layers) {
    if (mla_decode_bytes(mla, w->kv_up) == 0) continue;
    w->decode = place_mla_decode(mla, w->kv_up, panels_.data() + at, exponents_.data() + panel);
    at += mla_decode_bytes(mla, w->kv_up);
    panel += mla_decode_panels(mla, w->kv_up);
  }
}

void DecodeWeights::make(const MlaShape& mla, ModelWeights& weights,
                         const ModelPlacement& placement, Workers& workers) {
  std::vector<LayerWeights*> layers;
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    if (placement.layers[i].home == 0) layers.push_back(&weights.layers[i]);
  }
  take(mla, layers);
  for (const LayerWeights* w : layers) {
    if (w->decode.empty()) continue;
    // As the products share them out: who reads a head has first written it, so that its pages are
    // at the reader's memory node.
    workers.parallel_ranges(mla.n_heads, 1, [&](uint64_t begin, uint64_t end, int) {
      for (uint64_t head = begin; head < end; ++head) {
        make_mla_decode_head(mla, w->kv_up, static_cast<uint32_t>(head), w->decode);
      }
    });
  }
}

}  // namespace hybrid
