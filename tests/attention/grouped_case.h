#pragma once
// A case of grouped-query attention, and its textbook form in double over the rows as the cache
// keeps them.

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/grouped_attention.h"
#include "tests/attention/textbook_attention.h"
#include "tests/support/random_weights.h"

namespace hybrid::test {

struct GroupedCase {
  AttentionDims dims;
  uint32_t n_before = 0;  // rows in the cache before the queries
  uint32_t n_tokens = 0;
  float scale = 0.1f;
  DType key_type = DType::f32, value_type = DType::f32;
  uint32_t n_rotary = 0;  // of a key's elements, those that q8_0 does not round

  uint32_t n_kv() const { return n_before + n_tokens; }
};

/// A filled cache and queries.
struct GroupedInputs {
  KvCache cache;
  std::vector<float> q;

  static constexpr uint32_t kLayer = 1;  // of 2; the other one holds nothing

  explicit GroupedInputs(const GroupedCase& c, uint32_t n_ctx = 0)
      : cache(grouped_cache_shape(c.dims, c.n_rotary, 2, std::max(n_ctx, c.n_kv()),
                                  {.key_type = c.key_type, .value_type = c.value_type})),
        q(random_floats(uint64_t{c.n_tokens} * c.dims.n_heads * c.dims.key_dim, 1)) {
    const uint64_t n_rows = uint64_t{c.n_kv()} * c.dims.n_kv_heads;
    const std::vector<float> keys = random_floats(n_rows * c.dims.key_dim, 2);
    const std::vector<float> values = random_floats(n_rows * c.dims.value_dim, 3);
    for (uint64_t i = 0; i < n_rows; ++i) {
      cache.store(kLayer, static_cast<uint32_t>(i % c.dims.n_kv_heads),
                  static_cast<uint32_t>(i / c.dims.n_kv_heads), &keys[i * c.dims.key_dim],
                  &values[i * c.dims.value_dim]);
    }
  }
};

/// [n_tokens][n_heads][value_dim]
inline std::vector<double> reference_attention(const GroupedCase& c, const GroupedInputs& in) {
  const AttentionDims& d = c.dims;
  std::vector<float> key_scratch(uint64_t{c.n_kv()} * d.key_dim);
  std::vector<float> value_scratch(uint64_t{c.n_kv()} * d.value_dim);
  std::vector<double> out(uint64_t{c.n_tokens} * d.n_heads * d.value_dim);
  for (uint32_t h = 0; h < d.n_heads; ++h) {
    const uint32_t g = h * d.n_kv_heads / d.n_heads;
    const uint32_t layer = GroupedInputs::kLayer;
    const float* keys = in.cache.load_keys(layer, g, 0, c.n_kv(), key_scratch.data());
    const float* values = in.cache.load_values(layer, g, 0, c.n_kv(), value_scratch.data());
    for (uint32_t t = 0; t < c.n_tokens; ++t) {
      const uint64_t slot = uint64_t{t} * d.n_heads + h;
      textbook_attention(
          {&in.q[slot * d.key_dim], d.key_dim}, c.scale, c.n_before + t + 1,
          [&](uint64_t p) { return std::span(keys + p * d.key_dim, d.key_dim); },
          [&](uint64_t p) { return std::span(values + p * d.value_dim, d.value_dim); },
          {&out[slot * d.value_dim], d.value_dim});
    }
  }
  return out;
}

/// All queries in one call.
inline std::vector<float> attend(const GroupedCase& c, const GroupedInputs& in, bool flash,
                                 uint64_t max_scratch_bytes, Workers& workers) {
  GroupedAttention attention({c.dims, in.cache.shape().n_ctx, c.n_tokens, 0},
                             {.flash = flash, .max_scratch_bytes = max_scratch_bytes});
  std::vector<float> out(uint64_t{c.n_tokens} * c.dims.n_heads * c.dims.value_dim, NAN);
  attention.attend(
      {c.dims, c.scale, GroupedInputs::kLayer, c.n_before, c.n_tokens, in.q.data(), out.data()},
      in.cache, workers);
  return out;
}

}  // namespace hybrid::test
