#include "attention/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "base/error.h"
#include "base/units.h"
#include "tensor/dequantize.h"
#include "tensor/row_ops.h"

namespace hybrid {

void KvCache::Unmap::operator()(std::byte* p) const { munmap(p, n_bytes); }

KvCache::KvCache(const Shape& shape) : shape_(shape), data_(nullptr, Unmap{0}) {
  HYBRID_CHECK(shape.type == DType::f32 || shape.type == DType::f16);
  const uint64_t n = n_bytes();
  void* p =
      mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    fail("cannot reserve {} for the KV cache of {} tokens; choose a smaller context (-c)",
         format_bytes(n), shape.n_ctx);
  }
  data_ = {static_cast<std::byte*>(p), Unmap{n}};
}

uint64_t KvCache::n_bytes() const {
  uint64_t n = 0;
  if (!checked_mul(uint64_t{shape_.n_layers} * shape_.n_ctx, row_bytes(), n)) {
    fail("a KV cache of {} layers, {} tokens and {} bytes a row is beyond any memory",
         shape_.n_layers, shape_.n_ctx, row_bytes());
  }
  return n;
}

const std::byte* KvCache::rows(uint32_t layer) const {
  return data_.get() + uint64_t{layer} * shape_.n_ctx * row_bytes();
}

void KvCache::store(uint32_t layer, uint32_t position, const float* row) {
  HYBRID_CHECK(layer < shape_.n_layers && position < shape_.n_ctx);
  std::byte* to = data_.get() + (uint64_t{layer} * shape_.n_ctx + position) * row_bytes();
  if (shape_.type == DType::f32) {
    std::memcpy(to, row, row_bytes());
    return;
  }
  row_ops().to_f16(row, reinterpret_cast<f16_t*>(to), shape_.row_dim);
}

const float* load_cache_rows(const KvCache& cache, uint32_t layer, uint32_t first, uint32_t n,
                             float* scratch) {
  const std::byte* rows = cache.rows(layer) + first * cache.row_bytes();
  if (cache.shape().type == DType::f32) return reinterpret_cast<const float*>(rows);
  dequantize(cache.shape().type, rows, scratch, uint64_t{n} * cache.shape().row_dim);
  return scratch;
}

}  // namespace hybrid
