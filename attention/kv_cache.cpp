#include "attention/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "base/units.h"
#include "tensor/dequantize.h"

namespace hybrid {
namespace {

bool is_same(const CacheRow& a, const CacheRow& b) {
  return a.type == b.type && a.n == b.n && a.n_exact == b.n_exact;
}

/// Of the transposed copy: rows along positions cannot have blocks that are rounded together.
DType transposed_type(const KvCache::Shape& s) {
  return s.key.type == DType::f32 ? DType::f32 : DType::f16;
}

uint64_t transposed_row_bytes(const KvCache::Shape& s) {
  return row_bytes(transposed_type(s), (uint64_t{s.n_ctx} + 31) / 32 * 32);
}

/// Up to where floats may lie: blocks of bytes have an odd number of halves.
uint64_t aligned(uint64_t n_bytes) { return (n_bytes + alignof(float) - 1) & -alignof(float); }

uint64_t keys_bytes(const KvCache::Shape& s) {
  return aligned(uint64_t{s.n_heads} * s.n_ctx * s.key.n_bytes());
}

uint64_t values_bytes(const KvCache::Shape& s) {
  return s.values_in_keys() ? 0 : aligned(uint64_t{s.n_heads} * s.n_ctx * s.value.n_bytes());
}

uint64_t transposed_bytes(const KvCache::Shape& s) {
  return s.transposed ? s.key.n * transposed_row_bytes(s) : 0;
}

uint64_t layer_bytes(const KvCache::Shape& s) {
  uint64_t rows = 0, n = 0;
  if (!checked_mul(uint64_t{s.n_heads} * s.n_ctx, s.key.n_bytes() + s.value.n_bytes(), rows) ||
      __builtin_add_overflow(rows, transposed_bytes(s) + 2 * alignof(float), &n)) {
    return 0;
  }
  return keys_bytes(s) + values_bytes(s) + transposed_bytes(s);
}

}  // namespace

void KvCache::Unmap::operator()(std::byte* p) const {
  if (n_bytes > 0) munmap(p, n_bytes);
}

uint64_t KvCache::Shape::n_bytes() const {
  uint64_t n = 0;
  const uint64_t layer = layer_bytes(*this);
  if (layer == 0 || !checked_mul(n_layers, layer, n)) {
    fail("a KV cache of {} layers, {} heads and {} tokens is beyond any memory", n_layers, n_heads,
         n_ctx);
  }
  return n;
}

bool KvCache::Shape::operator==(const Shape& other) const {
  return n_layers == other.n_layers && n_ctx == other.n_ctx && n_heads == other.n_heads &&
         is_same(key, other.key) && is_same(value, other.value) && transposed == other.transposed;
}

KvCache::KvCache(const Shape& shape) : shape_(shape), data_(nullptr, Unmap{0}) {
  const uint64_t n = n_bytes();
  void* p =
      mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    fail("cannot reserve {} for the KV cache of {} tokens; choose a smaller context (-c)",
         format_bytes(n), shape.n_ctx);
  }
  // Pages of 2 MiB where the system has them: a decode step reads each row once, and processors'
  // prefetchers end at pages.
  madvise(p, n, MADV_HUGEPAGE);
  data_ = {static_cast<std::byte*>(p), Unmap{n}};
}

std::byte* KvCache::keys(uint32_t layer, uint32_t head) const {
  return data_.get() + layer * layer_bytes(shape_) +
         uint64_t{head} * shape_.n_ctx * shape_.key.n_bytes();
}

std::byte* KvCache::values(uint32_t layer, uint32_t head) const {
  return data_.get() + layer * layer_bytes(shape_) + keys_bytes(shape_) +
         uint64_t{head} * shape_.n_ctx * shape_.value.n_bytes();
}

std::byte* KvCache::transposed(uint32_t layer, uint32_t dim) const {
  return data_.get() + layer * layer_bytes(shape_) + keys_bytes(shape_) + values_bytes(shape_) +
         dim * transposed_row_bytes(shape_);
}

void KvCache::store(uint32_t layer, uint32_t head, uint32_t position, const float* key,
                    const float* value) {
  HYBRID_CHECK(layer < shape_.n_layers && head < shape_.n_heads && position < shape_.n_ctx);
  shape_.key.store(key, keys(layer, head) + position * shape_.key.n_bytes());
  if (!shape_.values_in_keys()) {
    shape_.value.store(value, values(layer, head) + position * shape_.value.n_bytes());
  }
  if (!shape_.transposed) return;
  for (uint32_t i = 0; i < shape_.key.n; ++i) {
    std::byte* row = transposed(layer, i);
    if (transposed_type(shape_) == DType::f32) {
      reinterpret_cast<float*>(row)[position] = key[i];
    } else {
      reinterpret_cast<f16_t*>(row)[position] = f32_to_f16(key[i]);
    }
  }
}

const float* KvCache::load_keys(uint32_t layer, uint32_t head, uint32_t first, uint32_t n,
                                float* scratch) const {
  const std::byte* rows = key_rows(layer, head, first);
  if (shape_.key.type == DType::f32) return reinterpret_cast<const float*>(rows);
  shape_.key.load(rows, n, scratch);
  return scratch;
}

const float* KvCache::load_values(uint32_t layer, uint32_t head, uint32_t first, uint32_t n,
                                  float* scratch) const {
  const std::byte* rows = values(layer, head) + first * shape_.value.n_bytes();
  if (shape_.value.type == DType::f32) return reinterpret_cast<const float*>(rows);
  shape_.value.load(rows, n, scratch);
  return scratch;
}

void KvCache::load_transposed(uint32_t layer, uint32_t dim, uint32_t first, uint32_t n,
                              float* to) const {
  const DType type = transposed_type(shape_);
  dequantize(type, transposed(layer, dim) + row_bytes(type, first), to, n);
}

std::vector<std::span<std::byte>> KvCache::layer_spans(uint32_t layer, uint32_t n) const {
  HYBRID_CHECK(layer < shape_.n_layers && n <= shape_.n_ctx);
  std::vector<std::span<std::byte>> out;
  for (uint32_t h = 0; h < shape_.n_heads; ++h) {
    out.emplace_back(keys(layer, h), n * shape_.key.n_bytes());
    if (!shape_.values_in_keys()) out.emplace_back(values(layer, h), n * shape_.value.n_bytes());
  }
  for (uint32_t i = 0; shape_.transposed && i < shape_.key.n; ++i) {
    out.emplace_back(transposed(layer, i), row_bytes(transposed_type(shape_), n));
  }
  return out;
}

void KvCache::copy_prefix(KvCache& from, uint32_t n) {
  Shape same = from.shape_;
  same.n_ctx = shape_.n_ctx;
  HYBRID_CHECK(same == shape_);
  for (uint32_t layer = 0; layer < shape_.n_layers; ++layer) {
    const auto to_spans = layer_spans(layer, n), from_spans = from.layer_spans(layer, n);
    for (size_t i = 0; i < to_spans.size(); ++i) {
      std::memcpy(to_spans[i].data(), from_spans[i].data(), to_spans[i].size());
    }
  }
}

}  // namespace hybrid
