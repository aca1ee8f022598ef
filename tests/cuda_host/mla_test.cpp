// Attention on a device: rows of the cache, absorbed (decode) and un-absorbed (prefill).

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "attention/mla_absorbed_cuda.h"
#include "attention/mla_prefill_cuda.h"
#include "attention/score_softmax_cuda.h"
#include "tests/attention/textbook_attention.h"
#include "tests/cuda_host/schedules.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

CacheRow latent_row(DType type) { return {type, kLatentDim, kRopeDim}; }

/// Rows of a cache as the CPU stores them, and what they hold.
struct CachedRows {
  CacheRow row;
  std::vector<std::byte> bytes;
  std::vector<float> values;

  CachedRows(DType type, uint32_t n_positions, float scale = 1) : row(latent_row(type)) {
    std::vector<float> from = random_floats(uint64_t{n_positions} * kLatentRow, 3);
    for (float& x : from) x *= scale;
    bytes.resize(n_positions * row.n_bytes());
    for (uint32_t p = 0; p < n_positions; ++p) {
      row.store(&from[uint64_t{p} * kLatentRow], &bytes[p * row.n_bytes()]);
    }
    values.resize(from.size());
    row.load(bytes.data(), n_positions, values.data());
  }
  std::span<const float> at(uint32_t p, uint32_t n) const {
    return std::span(values).subspan(uint64_t{p} * kLatentRow, n);
  }
};

struct DecodeCase {
  DType type;
  uint32_t n_heads, n_splits;
  std::vector<int32_t> n_visible;  // of each token
  float row_scale = 1, q_scale = 1;
};

void check_decode(const DecodeCase& c) {
  CAPTURE(name_of(c.type));
  CAPTURE(c.n_visible.back());
  CAPTURE(c.n_splits);
  const auto n_tokens = static_cast<uint32_t>(c.n_visible.size());
  const CachedRows rows(c.type, static_cast<uint32_t>(c.n_visible.back()), c.row_scale);
  const uint64_t n = uint64_t{n_tokens} * c.n_heads;
  std::vector<float> latent = random_floats(n * kLatentDim, 4), q = random_floats(n * 192, 5);
  for (auto* values : {&latent, &q}) {
    for (float& x : *values) x *= c.q_scale;
  }
  // Scores of deviation 2: a softmax that is neither flat nor a choice of one.
  const auto scale = static_cast<float>(2 / (24.0 * c.q_scale * c.row_scale));
  DeviceBuffer<std::byte> cache(rows.bytes);
  DeviceBuffer<int32_t> n_visible(c.n_visible);
  DeviceBuffer<float> device_latent(latent), device_q(q);
  MlaAbsorbedArgs args;
  args.row = rows.row;
  args.cache = cache.data();
  args.n_visible = n_visible.data();
  args.n_tokens = n_tokens;
  args.n_heads = c.n_heads;
  args.kq_scale = scale;
  args.q_latent = {device_latent.data(), uint64_t{c.n_heads} * kLatentDim};
  args.q_rope = {device_q.data() + 128, uint64_t{c.n_heads} * 192};
  args.q_rope_head_stride = 192;
  args.n_splits = c.n_splits;
  const auto found = same_under_schedules([&] {
    DeviceBuffer<float> out(n * kLatentDim);
    DeviceBuffer<float> scratch(mla_absorbed_scratch_bytes(args) / sizeof(float));
    args.out = out.data();
    args.scratch = scratch.data();
    REQUIRE(mla_absorbed_cuda(args, stream()) == 0);
    return written(out);
  });
  RelativeRms rms;
  for (uint64_t i = 0; i < n; ++i) {
    std::vector<float> query(&latent[i * kLatentDim], &latent[i * kLatentDim] + kLatentDim);
    query.insert(query.end(), &q[i * 192 + 128], &q[i * 192 + 128] + kRopeDim);
    std::vector<double> expected(kLatentDim);
    textbook_attention(
        query, static_cast<double>(scale), static_cast<uint32_t>(c.n_visible[i / c.n_heads]),
        [&](uint32_t p) { return rows.at(p, kLatentRow); },
        [&](uint32_t p) { return rows.at(p, kLatentDim); }, expected);
    for (uint64_t d = 0; d < kLatentDim; ++d) rms.add(found[i * kLatentDim + d], expected[d]);
  }
  // Half floats: queries and weights are rounded to 11 bits, q8_0 rows once more.
  CHECK(rms.value() < 1.5e-3);
}

}  // namespace

TEST_CASE("cuda: rows of the cache are the CPU's, bit for bit, and come back") {
  const uint32_t n_tokens = 5;
  auto from = random_floats(n_tokens * kLatentRow, 1);
  for (uint32_t i = 0; i < 32; ++i) from[i] = 0;
  from[kLatentRow + 7] = 1e5f;  // beyond f16, within q8_0
  from[2 * kLatentRow + 40] = 1e30f;
  const std::vector<int32_t> positions{3, 0, 6, 1, 4};
  for (const DType type : {DType::f16, DType::q8_0}) {
    const CacheRow row = latent_row(type);
    std::vector<std::byte> expected(8 * row.n_bytes());
    for (uint32_t t = 0; t < n_tokens; ++t) {
      row.store(&from[t * kLatentRow],
                &expected[static_cast<size_t>(positions[t]) * row.n_bytes()]);
    }
    const auto found = same_under_schedules([&] {
      DeviceBuffer<float> rows(from);
      DeviceBuffer<int32_t> at(positions);
      DeviceBuffer<std::byte> cache(std::vector<std::byte>(expected.size()));
      store_cache_rows_cuda(row, {rows.data(), kLatentRow}, at.data(), n_tokens, cache.data(),
                            stream());
      return cache.download();
    });
    CHECK(found == expected);

    const CachedRows cached(type, 9);
    DeviceBuffer<std::byte> cache(cached.bytes);
    DeviceBuffer<bf16_t> latents(9 * kLatentDim), exact(9 * kRopeDim);
    load_cache_rows_cuda(row, cache.data(), 9, latents.data(), exact.data(), stream());
    const auto found_latents = written(latents), found_exact = written(exact);
    for (uint32_t p = 0; p < 9; ++p) {
      for (uint32_t i = 0; i < kLatentRow; ++i) {
        const bf16_t bits = i < kLatentDim ? found_latents[p * kLatentDim + i]
                                           : found_exact[p * kRopeDim + i - kLatentDim];
        CHECK(bits == f32_to_bf16(cached.at(p, kLatentRow)[i]));
      }
    }
  }
}

TEST_CASE("cuda: absorbed attention of both caches, any number of positions and splits") {
  for (const DType type : {DType::f16, DType::q8_0}) {
    for (const int32_t n : {1, 15, 32, 33, 70}) check_decode({type, 16, 1, {n}});
    check_decode({type, 16, 3, {70}});
    check_decode({type, 16, 4, {20}});      // splits without a position
    check_decode({type, 20, 2, {40, 41}});  // two tokens, heads that fill no group
  }
}

TEST_CASE("cuda: absorbed attention with large numbers overflows nowhere") {
  check_decode({DType::f16, 16, 2, {50}, 100.0f, 1e6f});
  check_decode({DType::q8_0, 16, 1, {40}, 1e-3f, 1e-12f});
}

TEST_CASE("cuda: splits fill the machine, with 64 positions or more each") {
  CHECK(mla_absorbed_splits(128, 1, 100, 132) == 1);
  CHECK(mla_absorbed_splits(128, 1, 32768, 132) == 16);
  CHECK(mla_absorbed_splits(128, 1, 32768, 82) == 10);  // 80 blocks, not 88
  CHECK(mla_absorbed_splits(128, 32, 32768, 132) == 1);
  CHECK(mla_absorbed_splits(16, 1, 512, 128) == 8);
  CHECK(mla_absorbed_splits(16, 4, 32768, 128) == 32);
}

TEST_CASE("cuda: the softmax of scores in memory, causal, zeros behind") {
  struct Case {
    uint32_t n_before, n_tokens, n_heads;
    uint64_t stride;
    float spread = 4;
  };
  // Rows within a block's first step, up to its end, and beyond it; large scores.
  for (const Case& c : {Case{0, 1, 1, 2}, Case{0, 5, 3, 128}, Case{500, 14, 1, 640},
                        Case{1100, 3, 2, 1152}, Case{40, 4, 2, 128, 1e4f}}) {
    CAPTURE(c.n_before);
    CAPTURE(c.stride);
    const uint64_t n_rows = uint64_t{c.n_heads} * c.n_tokens;
    std::vector<float> scores = random_floats(n_rows * c.stride, 1);
    for (uint64_t i = 0; i < scores.size(); ++i) {
      const uint64_t token = i / c.stride % c.n_tokens;
      scores[i] *= c.spread;
      if (i % c.stride > c.n_before + token) scores[i] = NAN;  // nobody looks there
    }
    DeviceBuffer<float> device_scores(scores);
    const auto found = same_under_schedules([&] {
      DeviceBuffer<bf16_t> weights(scores.size());
      REQUIRE(score_softmax_cuda({c.n_heads, c.n_tokens, c.n_before, 0.5f, c.stride,
                                  device_scores.data(), weights.data()},
                                 stream()) == 0);
      return written(weights);
    });
    uint64_t n_behind = 0;
    double worst = 0;
    for (uint64_t row = 0; row < n_rows; ++row) {
      const float* const s = &scores[row * c.stride];
      const bf16_t* const w = &found[row * c.stride];
      const uint64_t n_visible = c.n_before + row % c.n_tokens + 1;
      const double max = 0.5 * *std::max_element(s, s + n_visible);
      double sum = 0;
      for (uint64_t p = 0; p < n_visible; ++p) sum += std::exp(0.5 * s[p] - max);
      for (uint64_t p = 0; p < n_visible; ++p) {
        const double exact = std::exp(0.5 * s[p] - max) / sum;
        worst = std::max(worst, std::abs(bf16_to_f32(w[p]) - exact) / (exact + 1e-30));
      }
      for (uint64_t p = n_visible; p < c.stride; ++p) n_behind += w[p] != 0;
    }
    CHECK(n_behind == 0);
    // Half a unit of bf16; where scores are in the thousands, their own last bits.
    CHECK(worst < 1.0 / 256 + (c.spread > 100 ? 2e-3 : 2e-5));
  }
}

TEST_CASE("cuda: un-absorbed attention, causal, behind cached positions") {
  struct Case {
    uint32_t n_before, n_tokens, n_heads;
  };
  for (const Case& c : {Case{0, 1, 1}, Case{0, 33, 2}, Case{5, 64, 1}, Case{40, 70, 2}}) {
    CAPTURE(c.n_before);
    CAPTURE(c.n_tokens);
    const uint32_t n_keys = c.n_before + c.n_tokens, kv_dim = kNopeDim + kValueDim;
    const auto q = random_floats(uint64_t{c.n_tokens} * c.n_heads * kQueryDim, 1);
    const auto rounded = [](std::vector<float> values, std::vector<bf16_t>& bits) {
      for (float& x : values) {
        bits.push_back(f32_to_bf16(x));
        x = bf16_to_f32(bits.back());
      }
      return values;
    };
    std::vector<bf16_t> kv_bits, rope_bits;
    const auto kv = rounded(random_floats(uint64_t{n_keys} * c.n_heads * kv_dim, 2), kv_bits);
    const auto rope = rounded(random_floats(uint64_t{n_keys} * kKeyRopeDim, 3), rope_bits);
    DeviceBuffer<float> device_q(q);
    DeviceBuffer<bf16_t> device_kv(kv_bits), device_rope(rope_bits);
    MlaPrefillArgs args;
    args.n_heads = c.n_heads;
    args.first_position = c.n_before;
    args.n_tokens = c.n_tokens;
    args.kq_scale = 0.15f;
    args.q = {device_q.data(), uint64_t{c.n_heads} * kQueryDim};
    args.k = {device_kv.data(), uint64_t{c.n_heads} * kv_dim};
    args.v = {device_kv.data() + kNopeDim, args.k.stride};
    args.k_head_stride = args.v_head_stride = kv_dim;
    args.rope = device_rope.data();
    const auto found = same_under_schedules([&] {
      DeviceBuffer<float> out(uint64_t{c.n_tokens} * c.n_heads * kValueDim);
      args.out = {out.data(), uint64_t{c.n_heads} * kValueDim};
      REQUIRE(mla_prefill_cuda(args, stream()) == 0);
      return written(out);
    });
    RelativeRms rms;
    for (uint32_t t = 0; t < c.n_tokens; ++t) {
      for (uint32_t h = 0; h < c.n_heads; ++h) {
        const uint64_t slot = uint64_t{t} * c.n_heads + h;
        std::vector<double> expected(kValueDim);
        textbook_attention(
            std::span(q).subspan(slot * kQueryDim, kQueryDim), 0.15f, c.n_before + t + 1,
            [&](uint32_t p) {
              const float* nope = &kv[(uint64_t{p} * c.n_heads + h) * kv_dim];
              std::vector<float> key(nope, nope + kNopeDim);
              key.insert(key.end(), &rope[p * kKeyRopeDim], &rope[p * kKeyRopeDim] + kKeyRopeDim);
              return key;
            },
            [&](uint32_t p) {
              return std::span(kv).subspan((uint64_t{p} * c.n_heads + h) * kv_dim + kNopeDim,
                                           kValueDim);
            },
            expected);
        for (uint32_t d = 0; d < kValueDim; ++d) rms.add(found[slot * kValueDim + d], expected[d]);
      }
    }
    // bf16: queries and softmax weights are rounded to 8 bits, scores have a deviation of 2.
    CHECK(rms.value() < 1e-2);
  }
}
