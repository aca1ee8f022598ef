#include "attention/key_block.h"

#include "base/error.h"
#include "base/rounding.h"

namespace hybrid {
namespace {

constexpr uint32_t kStep = kPreparedCols;  // positions whose values are prepared together

/// One head and kStep positions, `offset` behind the block's first.
class StepFiller {
 public:
  StepFiller(KeyBlock& block, const KvCache& cache, uint32_t layer, uint32_t head, uint32_t offset)
      : block_(block),
        cache_(cache),
        layer_(layer),
        head_(head),
        offset_(offset),
        n_(std::min(kStep, block.n_positions() - offset)) {}

  void fill(BlockParts parts) const {
    thread_local AlignedFloats buffer;
    const KvCache::Shape& s = cache_.shape();
    const bool needs_keys = parts.keys || (s.values_in_keys() && !s.transposed);
    const float* keys = nullptr;
    if (needs_keys) {
      float* scratch = buffer.reserve(uint64_t{kStep} * std::max(s.key.dim(), s.value.dim()));
      keys = cache_.load_keys(layer_, head_, block_.first() + offset_, n_, scratch);
    }
    if (parts.keys) fill_keys(keys);
    if (!parts.values) return;
    if (s.transposed) {
      fill_transposed(buffer.reserve(uint64_t{kStep} * block_.shape().value_dim));
    } else if (s.values_in_keys()) {
      fill_values(keys, s.key.dim());
    } else {
      float* scratch = buffer.reserve(uint64_t{kStep} * std::max(s.key.dim(), s.value.dim()));
      fill_values(cache_.load_values(layer_, head_, block_.first() + offset_, n_, scratch),
                  s.value.dim());
    }
  }

 private:
  void fill_keys(const float* rows) const {
    const uint64_t stride = block_.shape().key_stride();
    float* to = block_.key_panels(head_, offset_ / kPanelLanes);
    pack_rows_as_lanes(rows, cache_.shape().key.dim(), n_, block_.shape().own_dim, to, stride);
    prepare_panels(to, stride, n_panels_of(n_), block_.shape().own_dim);
  }
  void fill_values(const float* rows, uint64_t row_stride) const {
    float* to = block_.value_panels(head_, offset_);
    pack_columns_as_lanes(rows, row_stride, n_, block_.shape().value_dim, to,
                          block_.shape().value_stride());
    prepare_values(to);
  }
  void fill_transposed(float* rows) const {
    const uint32_t n_dims = block_.shape().value_dim;
    for (uint32_t i = 0; i < n_dims; ++i) {
      cache_.load_transposed(layer_, i, block_.first() + offset_, n_, rows + uint64_t{i} * n_);
    }
    float* to = block_.value_panels(head_, offset_);
    pack_rows_as_lanes(rows, n_, n_dims, n_, to, block_.shape().value_stride());
    prepare_values(to);
  }
  void prepare_values(float* to) const {
    prepare_panels(to, block_.shape().value_stride(), n_panels_of(block_.shape().value_dim), n_);
  }

  KeyBlock& block_;
  const KvCache& cache_;
  uint32_t layer_, head_, offset_, n_;
};

}  // namespace

uint64_t fill_thread_bytes(uint64_t key_dim, uint64_t value_dim) {
  return kStep * std::max(key_dim, value_dim) * sizeof(float);
}

KeyBlock::KeyBlock(const Shape& shape) : shape_(shape) {
  HYBRID_CHECK(shape.n_positions % kPreparedCols == 0);
  keys_.reserve(shape.n_heads * shape.keys_per_head());
  shared_.reserve(shape.n_panels() * shape.shared_stride());
  values_.reserve(shape.n_heads * shape.values_per_head());
}

void KeyBlock::begin(uint32_t head, uint32_t first, uint32_t n) {
  HYBRID_CHECK(n > 0 && n <= shape_.n_positions);
  head_ = head;
  first_ = first;
  n_ = n;
}

void fill_from_cache(KeyBlock& block, BlockParts parts, const KvCache& cache, uint32_t layer,
                     uint32_t head, uint32_t n_heads, uint32_t first, uint32_t n,
                     Workers& workers) {
  HYBRID_CHECK(block.shape().shared_dim == 0 && block.shape().own_dim == cache.shape().key.dim());
  HYBRID_CHECK(n_heads <= block.shape().n_heads);
  block.begin(head, first, n);
  const uint64_t n_steps = divide_up(n, kStep);
  workers.parallel_for(n_heads * n_steps, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      StepFiller(block, cache, layer, head + static_cast<uint32_t>(i / n_steps),
                 static_cast<uint32_t>(i % n_steps) * kStep)
          .fill(parts);
    }
  });
}

}  // namespace hybrid
