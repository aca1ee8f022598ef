#pragma once
// What attention keeps of every token it has seen.
//
// With multi-head latent attention (-mla 1, 2, 3) a layer has one head of keys, and the values are
// the first elements of the keys:
//   [0, kv_lora)                   the latent, after its norm
//   [kv_lora, kv_lora + qk_rope)   the shared rotary key, rotated to its position
// Otherwise (-mla 0, grouped queries) every head has rows of keys and rows of values of its own.
//
// Layer after layer, each part from a multiple of 4 bytes on:
//   keys        [n_heads][n_ctx] rows
//   values      [n_heads][n_ctx] rows             where values are rows of their own
//   transposed  [key.n][n_ctx rounded up to 32]   f16 (f32 where keys are): where asked for, the
//                                                 first key.n elements of the keys once more

#include <memory>
#include <span>
#include <vector>

#include "attention/cache_row.h"

namespace hybrid {

class KvCache {
 public:
  struct Shape {
    uint32_t n_layers = 0;
    uint32_t n_ctx = 0;  // positions
    uint32_t n_heads = 1;
    CacheRow key = {};
    CacheRow value = {};  // of dimension 0: values are the first elements of keys
    bool transposed = false;

    bool values_in_keys() const { return value.dim() == 0; }
    /// Throws Error where the number does not fit 64 bits.
    uint64_t n_bytes() const;
    bool operator==(const Shape&) const;
  };

  /// Reserves address space for all rows; pages are taken from the system as rows are written.
  /// Throws Error where that fails (says how many bytes were asked for).
  explicit KvCache(const Shape& shape);
  /// In memory of shape.n_bytes() that the caller keeps, of a device perhaps: then only what runs
  /// there may follow it.
  KvCache(const Shape& shape, std::byte* memory) : shape_(shape), data_(memory, Unmap{0}) {}

  const Shape& shape() const { return shape_; }
  uint64_t n_bytes() const { return shape_.n_bytes(); }

  /// Writes the rows of one position and head. value: null where values are in the keys.
  void store(uint32_t layer, uint32_t head, uint32_t position, const float* key,
             const float* value);

  // n rows of a layer and head from position `first` on, as floats without gaps: the rows
  // themselves where the type is f32, else converted into `scratch`.
  const float* load_keys(uint32_t layer, uint32_t head, uint32_t first, uint32_t n,
                         float* scratch) const;
  const float* load_values(uint32_t layer, uint32_t head, uint32_t first, uint32_t n,
                           float* scratch) const;
  /// Element `dim` of n positions, from the transposed copy, into `to`.
  void load_transposed(uint32_t layer, uint32_t dim, uint32_t first, uint32_t n, float* to) const;

  /// The memory of the keys of a layer and head, from `position` on; for prefetching.
  const std::byte* key_rows(uint32_t layer, uint32_t head, uint32_t position) const {
    return keys(layer, head) + position * shape_.key.n_bytes();
  }

  /// The memory that a layer's first n positions take, in a fixed order: for copies and files.
  std::vector<std::span<std::byte>> layer_spans(uint32_t layer, uint32_t n_positions) const;

  /// Makes the first n positions those of another cache of the same shape but for n_ctx.
  void copy_prefix(KvCache& from, uint32_t n_positions);

 private:
  struct Unmap {
    uint64_t n_bytes;  // 0: somebody else's
    void operator()(std::byte* p) const;
  };
  std::byte* keys(uint32_t layer, uint32_t head) const;
  std::byte* values(uint32_t layer, uint32_t head) const;
  std::byte* transposed(uint32_t layer, uint32_t dim) const;

  Shape shape_;
  std::unique_ptr<std::byte, Unmap> data_;
};

}  // namespace hybrid
