#include "runtime/sequence_cache.h"

#include "base/error.h"

namespace hybrid {
namespace {

using Spans = std::vector<std::span<std::byte>>;

uint64_t total_bytes(const Spans& spans) {
  uint64_t n = 0;
  for (const auto& span : spans) n += span.size();
  return n;
}

/// The same pieces, one behind the other from `memory` on.
Spans moved_to(std::byte* memory, Spans spans) {
  for (auto& span : spans) {
    span = {memory, span.size()};
    memory += span.size();
  }
  return spans;
}

}  // namespace

SequenceCache::SequenceCache(const KvCache::Shape& shape, const ModelPlacement& placement,
                             const ModelDevices& devices)
    : shape_(shape), layers_(placement.layers), parts_(placement.n_processors) {
  HYBRID_CHECK(devices.size() + 1 == placement.n_processors);
  for (uint32_t p = 0; p < parts_.size(); ++p) {
    Part& part = parts_[p];
    KvCache::Shape own = shape;
    own.n_layers = placement.n_cached_layers(p);
    if (p == 0) {
      if (own.n_layers > 0) part.cache = std::make_unique<KvCache>(own);
      continue;
    }
    part.device = &devices[p - 1]->device();
    part.stream = part.device->make_stream();
    if (own.n_layers == 0) continue;
    part.memory = part.device->allocate(own.n_bytes(), "the KV cache");
    part.cache = std::make_unique<KvCache>(own, part.memory.data());
  }
}

uint64_t SequenceCache::n_bytes() const {
  uint64_t n = 0;
  for (const Part& part : parts_) n += part.cache == nullptr ? 0 : part.cache->n_bytes();
  return n;
}

uint64_t SequenceCache::n_bytes_of(uint32_t n_positions) const {
  uint64_t n = 0;
  for (const LayerPlacement& layer : layers_) {
    n += total_bytes(parts_[layer.home].cache->layer_spans(layer.cache_layer, n_positions));
  }
  return n;
}

Spans SequenceCache::rows_to_write(uint32_t layer, uint32_t n) {
  Part& part = part_of(layer);
  Spans own = part.cache->layer_spans(layers_[layer].cache_layer, n);
  if (part.device == nullptr) return own;
  if (const uint64_t n_bytes = total_bytes(own); n_bytes > part.staging.n_bytes()) {
    part.staging = part.device->allocate_pinned(n_bytes, "copies of the KV cache");
  }
  return moved_to(part.staging.data(), std::move(own));
}

Spans SequenceCache::rows(uint32_t layer, uint32_t n) {
  Part& part = part_of(layer);
  Spans copy = rows_to_write(layer, n);
  if (part.device == nullptr) return copy;
  const Spans own = part.cache->layer_spans(layers_[layer].cache_layer, n);
  for (size_t i = 0; i < own.size(); ++i) {
    part.stream->copy_to_host(copy[i].data(), own[i].data(), own[i].size());
  }
  part.stream->synchronize(kDeviceTimeout);
  return copy;
}

void SequenceCache::put_rows(uint32_t layer, uint32_t n) {
  Part& part = part_of(layer);
  if (part.device == nullptr) return;
  const Spans own = part.cache->layer_spans(layers_[layer].cache_layer, n);
  const Spans copy = moved_to(part.staging.data(), own);
  for (size_t i = 0; i < own.size(); ++i) {
    part.stream->copy_to_device(own[i].data(), copy[i].data(), own[i].size());
  }
  part.stream->synchronize(kDeviceTimeout);
}

void SequenceCache::copy_prefix(SequenceCache& from, uint32_t n) {
  HYBRID_CHECK(from.parts_.size() == parts_.size());
  for (uint32_t p = 0; p < parts_.size(); ++p) {
    Part& part = parts_[p];
    if (part.cache == nullptr) continue;
    if (part.device == nullptr) {
      part.cache->copy_prefix(*from.parts_[p].cache, n);
      continue;
    }
    for (uint32_t layer = 0; layer < part.cache->shape().n_layers; ++layer) {
      const Spans to = part.cache->layer_spans(layer, n);
      const Spans source = from.parts_[p].cache->layer_spans(layer, n);
      for (size_t i = 0; i < to.size(); ++i) {
        part.stream->copy_on_device(to[i].data(), source[i].data(), to[i].size());
      }
    }
    part.stream->synchronize(kDeviceTimeout);
  }
}

}  // namespace hybrid
