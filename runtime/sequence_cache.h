#pragma once
// A sequence's cache: the rows of each layer on the processor that the layer's attention is on.

#include <memory>
#include <span>
#include <vector>

#include "attention/kv_cache.h"
#include "runtime/model_device.h"
#include "runtime/model_placement.h"

namespace hybrid {

class SequenceCache {
 public:
  /// shape: of all layers. Throws Error where there is no memory.
  SequenceCache(const KvCache::Shape& shape, const ModelPlacement& placement,
                const ModelDevices& devices);

  const KvCache::Shape& shape() const { return shape_; }
  uint64_t n_bytes() const;  // on all processors together

  /// Null where no layer's cache lies there.
  KvCache* on(uint32_t processor) const { return parts_[processor].cache.get(); }

  /// Of the first n positions of all layers.
  uint64_t n_bytes_of(uint32_t n_positions) const;

  // The memory that a layer's first n positions take, piece by piece: the CPU's own, or, where it
  // lies on a device, a copy that is valid until the next call. What the second one gives is to be
  // filled, and then given to put_rows().
  std::vector<std::span<std::byte>> rows(uint32_t layer, uint32_t n_positions);
  std::vector<std::span<std::byte>> rows_to_write(uint32_t layer, uint32_t n_positions);
  void put_rows(uint32_t layer, uint32_t n_positions);

  /// Makes the first n positions those of another cache of the same shape but for n_ctx, and of the
  /// same placement.
  void copy_prefix(SequenceCache& from, uint32_t n_positions);

 private:
  struct Part {
    Device* device = nullptr;  // null: the CPU
    DeviceMemory memory = {};
    std::unique_ptr<KvCache> cache = {};
    std::unique_ptr<DeviceStream> stream = {};
    DeviceMemory staging = {};  // pinned: the rows of a layer
  };
  Part& part_of(uint32_t layer) { return parts_[layers_[layer].home]; }

  KvCache::Shape shape_;
  std::vector<LayerPlacement> layers_;
  std::vector<Part> parts_;  // [processors]
};

}  // namespace hybrid
