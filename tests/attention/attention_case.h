#pragma once
// A case of multi-head latent attention, and its textbook form in double: keys and values
// materialised per head.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "attention/mla_attention.h"
#include "tensor/dequantize.h"
#include "tests/attention/textbook_attention.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"

namespace hybrid::test {

struct AttentionCase {
  MlaShape shape;
  uint32_t n_before = 0;  // rows in the cache before the queries
  uint32_t n_tokens = 0;
  DType weight_type = DType::f32;
  DType cache_type = DType::f32;
  float scale_factor = 1;

  float kq_scale() const {
    return scale_factor * static_cast<float>(1 / std::sqrt(shape.qk_dim()));
  }
};

/// Inputs and weights of a case; the split pair is the exact transpose of the merged tensor.
struct AttentionInputs {
  std::vector<std::byte> kv_b_bytes, k_b_bytes, v_b_bytes;
  std::vector<float> kv_b;  // decoded
  MlaUpProjection merged, split;
  std::vector<float> q, rows;

  explicit AttentionInputs(const AttentionCase& c) {
    const MlaShape& s = c.shape;
    const uint64_t head_rows = s.qk_nope + s.v_dim, n_rows = head_rows * s.n_heads;
    kv_b_bytes = random_weights(c.weight_type, n_rows * s.kv_lora, 1);
    kv_b.resize(n_rows * s.kv_lora);
    dequantize(c.weight_type, kv_b_bytes.data(), kv_b.data(), kv_b.size());
    merged.kv_b = {c.weight_type, {s.kv_lora, n_rows, 1, 1}, kv_b_bytes};
    std::vector<float> k_b, v_b;
    for (uint32_t h = 0; h < s.n_heads; ++h) {
      const float* head = kv_b.data() + h * head_rows * s.kv_lora;
      for (uint32_t j = 0; j < s.kv_lora; ++j) {
        for (uint32_t i = 0; i < s.qk_nope; ++i) k_b.push_back(head[i * s.kv_lora + j]);
      }
      v_b.insert(v_b.end(), head + s.qk_nope * s.kv_lora, head + head_rows * s.kv_lora);
    }
    k_b_bytes = bytes_of(k_b);
    v_b_bytes = bytes_of(v_b);
    split.k_b = {DType::f32, {s.qk_nope, uint64_t{s.kv_lora} * s.n_heads, 1, 1}, k_b_bytes};
    split.v_b = {DType::f32, {s.kv_lora, uint64_t{s.v_dim} * s.n_heads, 1, 1}, v_b_bytes};
    q = random_floats(uint64_t{c.n_tokens} * s.n_heads * s.qk_dim(), 2);
    rows = random_floats(uint64_t{c.n_before + c.n_tokens} * s.cache_row(), 3);
  }

  static std::vector<std::byte> bytes_of(const std::vector<float>& values) {
    std::vector<std::byte> out(values.size() * sizeof(float));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }
};

/// All outputs in double, [n_tokens][n_heads][v_dim].
inline std::vector<double> reference_attention(const AttentionCase& c, const AttentionInputs& in) {
  const MlaShape& s = c.shape;
  const uint32_t n_kv = c.n_before + c.n_tokens;
  std::vector<double> out(uint64_t{c.n_tokens} * s.n_heads * s.v_dim);
  std::vector<double> keys(uint64_t{n_kv} * s.qk_dim()), values(uint64_t{n_kv} * s.v_dim);
  for (uint32_t h = 0; h < s.n_heads; ++h) {
    const float* head = in.kv_b.data() + uint64_t{h} * (s.qk_nope + s.v_dim) * s.kv_lora;
    const auto up = [&](uint64_t i, const float* row) {
      const float* w = head + i * s.kv_lora;
      return std::inner_product(w, w + s.kv_lora, row, 0.0, std::plus<>(),
                                [](double a, double b) { return a * b; });
    };
    for (uint64_t k = 0; k < n_kv; ++k) {
      const float* row = in.rows.data() + k * s.cache_row();
      double *key = &keys[k * s.qk_dim()], *value = &values[k * s.v_dim];
      for (uint32_t i = 0; i < s.qk_nope; ++i) key[i] = up(i, row);
      std::copy_n(row + s.kv_lora, s.qk_rope, key + s.qk_nope);
      for (uint32_t i = 0; i < s.v_dim; ++i) value[i] = up(s.qk_nope + i, row);
    }
    for (uint32_t t = 0; t < c.n_tokens; ++t) {
      const uint64_t slot = uint64_t{t} * s.n_heads + h;
      textbook_attention(
          {&in.q[slot * s.qk_dim()], s.qk_dim()}, c.kq_scale(), c.n_before + t + 1,
          [&](uint64_t p) { return std::span(&keys[p * s.qk_dim()], s.qk_dim()); },
          [&](uint64_t p) { return std::span(&values[p * s.v_dim], s.v_dim); },
          {&out[slot * s.v_dim], s.v_dim});
    }
  }
  return out;
}

inline AttentionOptions options_of(const AttentionCase& c, MlaMode mla, bool flash = true,
                                   uint64_t max_scratch_bytes = 0) {
  return {mla, flash, max_scratch_bytes, c.cache_type, c.cache_type};
}

/// All queries of a case in one call, behind rows that were stored in another.
inline std::vector<float> attend(const AttentionCase& c, const AttentionInputs& in,
                                 const MlaUpProjection& up, const AttentionOptions& options,
                                 Workers& workers) {
  const uint32_t n_kv = c.n_before + c.n_tokens;
  KvCache cache(mla_cache_shape(c.shape, 2, n_kv, options));
  MlaAttention attention(MlaPlan(c.shape, options, n_kv, c.n_tokens));
  const float* rows = in.rows.data();
  if (c.n_before > 0) attention.store(up, rows, c.n_before, cache, 1, 0, workers);
  attention.store(up, rows + uint64_t{c.n_before} * c.shape.cache_row(), c.n_tokens, cache, 1,
                  c.n_before, workers);
  std::vector<float> out(uint64_t{c.n_tokens} * c.shape.n_heads * c.shape.v_dim, NAN);
  attention.attend({c.kq_scale(), 1, c.n_before, c.n_tokens, in.q.data(), out.data()}, up, {},
                   cache, workers);
  return out;
}

}  // namespace hybrid::test
