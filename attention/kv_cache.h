#pragma once
// The cache of latent rows: for each layer and position what attention needs of that token.
//
// Row (element type f32 or f16), MlaShape::cache_row() elements:
//   [0, kv_lora)                   the latent, after its norm
//   [kv_lora, kv_lora + qk_rope)   the shared rotary key, rotated to its position

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tensor/dtype.h"

namespace hybrid {

class KvCache {
 public:
  struct Shape {
    uint32_t n_layers = 0;
    uint32_t n_ctx = 0;       // positions
    uint32_t row_dim = 0;     // elements of a row
    DType type = DType::f16;  // f32 or f16
  };

  /// Reserves address space for all rows; pages are taken from the system as rows are written.
  /// Throws Error where that fails (says how many bytes were asked for).
  explicit KvCache(const Shape& shape);

  const Shape& shape() const { return shape_; }
  uint64_t n_bytes() const;  // throws Error where the number does not fit 64 bits

  /// Writes one row, converting from float.
  void store(uint32_t layer, uint32_t position, const float* row);

  /// The rows of a layer, one after the other, from position 0.
  const std::byte* rows(uint32_t layer) const;
  uint64_t row_bytes() const { return hybrid::row_bytes(shape_.type, shape_.row_dim); }

 private:
  struct Unmap {
    uint64_t n_bytes;
    void operator()(std::byte* p) const;
  };
  Shape shape_;
  std::unique_ptr<std::byte, Unmap> data_;
};

/// n rows of a layer from position `first` on, as floats, [n][row_dim]: the rows themselves for
/// f32, else converted into `scratch`.
const float* load_cache_rows(const KvCache& cache, uint32_t layer, uint32_t first, uint32_t n,
                             float* scratch);

}  // namespace hybrid
