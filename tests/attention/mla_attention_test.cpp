// Absorbed attention against the textbook form in double: keys and values materialised per head.

#include "attention/mla_attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/dequantize.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct Case {
  MlaShape shape;
  uint32_t n_before = 0;  // rows in the cache before the queries
  uint32_t n_tokens = 0;
  DType weight_type = DType::f32;
  DType cache_type = DType::f32;
};

/// Inputs and weights of a case; the split pair is the exact transpose of the merged tensor.
struct Inputs {
  std::vector<std::byte> kv_b_bytes, k_b_bytes, v_b_bytes;
  std::vector<float> kv_b;  // decoded
  MlaUpProjection merged, split;
  std::vector<float> q, rows;

  explicit Inputs(const Case& c) {
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

/// One head's output for one query, all in double.
std::vector<double> reference(const Case& c, const Inputs& in, uint32_t token, uint32_t head,
                              double kq_scale) {
  const MlaShape& s = c.shape;
  const float* w = in.kv_b.data() + uint64_t{head} * (s.qk_nope + s.v_dim) * s.kv_lora;
  const float* q = in.q.data() + (uint64_t{token} * s.n_heads + head) * s.qk_dim();
  const uint32_t n_kv = c.n_before + token + 1;
  const auto project = [&](const float* row, uint32_t i) {
    double sum = 0;
    for (uint32_t j = 0; j < s.kv_lora; ++j) sum += double{w[i * s.kv_lora + j]} * row[j];
    return sum;
  };
  std::vector<double> p(n_kv), out(s.v_dim, 0.0);
  double max = -INFINITY, sum = 0;
  for (uint32_t k = 0; k < n_kv; ++k) {
    const float* row = in.rows.data() + uint64_t{k} * s.cache_row();
    double score = 0;
    for (uint32_t i = 0; i < s.qk_nope; ++i) score += q[i] * project(row, i);
    for (uint32_t i = 0; i < s.qk_rope; ++i) score += double{q[s.qk_nope + i]} * row[s.kv_lora + i];
    p[k] = score * kq_scale;
    max = std::max(max, p[k]);
  }
  for (double& v : p) sum += v = std::exp(v - max);
  for (uint32_t k = 0; k < n_kv; ++k) {
    const float* row = in.rows.data() + uint64_t{k} * s.cache_row();
    for (uint32_t i = 0; i < s.v_dim; ++i) out[i] += p[k] / sum * project(row, s.qk_nope + i);
  }
  return out;
}

double error_of(const Case& c, const Inputs& in, const MlaUpProjection& up, Workers& workers) {
  const MlaShape& s = c.shape;
  KvCache cache({2, c.n_before + c.n_tokens, s.cache_row(), c.cache_type});
  for (uint32_t p = 0; p < c.n_before + c.n_tokens; ++p) {
    cache.store(1, p, in.rows.data() + uint64_t{p} * s.cache_row());
  }
  std::vector<float> out(uint64_t{c.n_tokens} * s.n_heads * s.v_dim);
  std::vector<float> latent(uint64_t{c.n_tokens} * s.n_heads * s.cache_row());
  const auto kq_scale = static_cast<float>(1 / std::sqrt(s.qk_dim()));
  MlaAttentionArgs args;
  args.shape = s;
  args.kq_scale = kq_scale;
  args.layer = 1;
  args.first_position = c.n_before;
  args.n_tokens = c.n_tokens;
  args.q = in.q.data();
  args.out = out.data();
  args.latent = latent.data();
  mla_attention_absorbed(args, up, cache, workers);
  double difference = 0, norm = 0;
  for (uint32_t t = 0; t < c.n_tokens; ++t) {
    for (uint32_t h = 0; h < s.n_heads; ++h) {
      const auto expected = reference(c, in, t, h, kq_scale);
      const float* found = out.data() + (uint64_t{t} * s.n_heads + h) * s.v_dim;
      for (uint32_t i = 0; i < s.v_dim; ++i) {
        difference += (found[i] - expected[i]) * (found[i] - expected[i]);
        norm += expected[i] * expected[i];
      }
    }
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("absorbed attention is attention") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const MlaShape real{.n_heads = 2, .qk_nope = 128, .qk_rope = 64, .v_dim = 128, .kv_lora = 512};
  const MlaShape odd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};
  const Case cases[] = {
      {real, 5, 3},
      {real, 0, 1},
      {odd, 0, 17},
      {odd, 40, 1},
      {real, 70, 9},
      {real, 3, 2, DType::q4_k},
      {odd, 9, 4, DType::q8_0},
  };
  for (const Case& c : cases) {
    const Inputs in(c);
    CAPTURE(c.n_before);
    CAPTURE(c.n_tokens);
    CHECK(error_of(c, in, in.merged, workers) < 2e-6);
    CHECK(error_of(c, in, in.split, workers) < 2e-6);
  }
}

TEST_CASE("an f16 cache costs about a half's rounding") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  const MlaShape odd{.n_heads = 3, .qk_nope = 12, .qk_rope = 6, .v_dim = 20, .kv_lora = 32};
  const Case c{odd, 20, 5, DType::f32, DType::f16};
  const Inputs in(c);
  const double error = error_of(c, in, in.merged, workers);
  CHECK(error < 2e-3);
  CHECK(error > 1e-5);
}

TEST_CASE("the cache gives back what was stored") {
  KvCache cache({3, 5, 10, DType::f32});
  const std::vector<float> row = random_floats(10, 9);
  cache.store(2, 4, row.data());
  std::vector<float> scratch(10);
  const float* loaded = load_cache_rows(cache, 2, 4, 1, scratch.data());
  CHECK(std::memcmp(loaded, row.data(), 40) == 0);
  CHECK(cache.n_bytes() == 3 * 5 * 40);
  CHECK_THROWS(cache.store(2, 5, row.data()));
  CHECK_THROWS(cache.store(3, 0, row.data()));
}
