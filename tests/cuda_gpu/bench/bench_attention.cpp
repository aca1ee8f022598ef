// Attention on latents, and with made keys.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "attention/mla_absorbed_cuda.h"
#include "attention/mla_prefill_cuda.h"
#include "tests/cuda_gpu/bench/bench_kernels.h"
#include "tests/cuda_gpu/bench/measure.h"
#include "tests/support/random_weights.h"

namespace hybrid::gpu {
namespace {

/// Tokens of one sequence: all read the same rows of the cache.
void bench_absorbed(const Machine& on, DType type, uint32_t n_heads, uint32_t n_positions,
                    uint32_t n_tokens) {
  const std::string what = fmt::format("mla_absorbed {}", name_of(type));
  const std::string shape =
      fmt::format("{} heads, {} positions, {} tokens", n_heads, n_positions, n_tokens);
  print_or_say_why(what, shape, [&] {
    const CacheRow row{type, kLatentDim, kRopeDim};
    const uint64_t cache_bytes = n_positions * row.n_bytes(), n = n_sets(on, cache_bytes);
    constexpr uint32_t kSome = 256;
    const auto values = test::random_floats(uint64_t{kSome} * kLatentRow, 1);
    std::vector<std::byte> rows(cache_bytes);
    for (uint32_t p = 0; p < n_positions; ++p) {
      if (p < kSome) {
        row.store(&values[uint64_t{p} * kLatentRow], &rows[p * row.n_bytes()]);
      } else {
        std::copy_n(&rows[p % kSome * row.n_bytes()], row.n_bytes(), &rows[p * row.n_bytes()]);
      }
    }
    const Memory caches(n * cache_bytes);
    for (uint64_t i = 0; i < n; ++i) {
      check(cudaMemcpyAsync(caches.as<std::byte>() + i * cache_bytes, rows.data(), cache_bytes,
                            cudaMemcpyHostToDevice, stream()),
            "a copy to the device", cache_bytes);
    }
    synchronize();
    const uint64_t n_queries = uint64_t{n_tokens} * n_heads;
    Memory latent(n_queries * kLatentDim * sizeof(float)), rope(n_queries * kRopeDim * 4);
    Memory out(latent.n_bytes()), visible(n_tokens * sizeof(int32_t));
    latent.upload(test::random_floats(n_queries * kLatentDim, 2).data(), latent.n_bytes());
    rope.upload(test::random_floats(n_queries * kRopeDim, 3).data(), rope.n_bytes());
    const std::vector<int32_t> counts(n_tokens, static_cast<int32_t>(n_positions));
    visible.upload(counts.data(), visible.n_bytes());
    MlaAbsorbedArgs args;
    args.row = row;
    args.n_visible = visible.as<int32_t>();
    args.n_tokens = n_tokens;
    args.n_heads = n_heads;
    args.kq_scale = 0.1f;
    args.q_latent = {latent.as<float>(), uint64_t{n_heads} * kLatentDim};
    args.q_rope = {rope.as<float>(), uint64_t{n_heads} * kRopeDim};
    args.q_rope_head_stride = kRopeDim;
    args.out = out.as<float>();
    args.n_splits = mla_absorbed_splits(n_heads, n_tokens, n_positions, on.n_multiprocessors);
    const Memory scratch(mla_absorbed_scratch_bytes(args));
    args.scratch = scratch.as<float>();
    const double us = median_us([&](uint64_t i) {
      args.cache = caches.as<std::byte>() + i % n * cache_bytes;
      return mla_absorbed_cuda(args, stream());
    });
    // Every token's rows once, whether they come from memory or from L2, where another token's
    // blocks have brought them.
    const double gbs = static_cast<double>(cache_bytes) * n_tokens / us * 1e-3;
    const double flop = 2.0 * n_heads * (kLatentRow + kLatentDim) * n_positions * n_tokens;
    return Row{what, shape, us, gbs, gbs / on.copy_gbs, flop / us * 1e-6};
  });
}

void bench_prefill(const Machine&, uint32_t n_heads, uint32_t n_tokens) {
  const std::string shape = fmt::format("{} heads, {} tokens", n_heads, n_tokens);
  print_or_say_why("mla_prefill", shape, [&] {
    const uint64_t kv_dim = kNopeDim + kValueDim, n_slots = uint64_t{n_tokens} * n_heads;
    Memory q(n_slots * kQueryDim * sizeof(float)), kv(n_slots * kv_dim * sizeof(bf16_t));
    Memory rope(uint64_t{n_tokens} * kKeyRopeDim * sizeof(bf16_t));
    const Memory out(n_slots * kValueDim * sizeof(float));
    // The queries of one token, for all.
    const auto one = test::random_floats(uint64_t{n_heads} * kQueryDim, 1);
    std::vector<float> all;
    for (uint32_t t = 0; t < n_tokens; ++t) all.insert(all.end(), one.begin(), one.end());
    q.upload(all.data(), q.n_bytes());
    check(launch_random_bf16(kv.as<bf16_t>(), n_slots * kv_dim, stream()), "a launch");
    check(launch_random_bf16(rope.as<bf16_t>(), uint64_t{n_tokens} * kKeyRopeDim, stream()),
          "a launch");
    MlaPrefillArgs args;
    args.n_heads = n_heads;
    args.n_tokens = n_tokens;
    args.kq_scale = 0.1f;
    args.q = {q.as<float>(), uint64_t{n_heads} * kQueryDim};
    args.k = {kv.as<bf16_t>(), uint64_t{n_heads} * kv_dim};
    args.v = {kv.as<bf16_t>() + kNopeDim, args.k.stride};
    args.k_head_stride = args.v_head_stride = kv_dim;
    args.rope = rope.as<bf16_t>();
    args.out = {out.as<float>(), uint64_t{n_heads} * kValueDim};
    const double us = median_us([&](uint64_t) { return mla_prefill_cuda(args, stream()); });
    // Of the keys that each query sees, not of whole tiles.
    const double pairs = 0.5 * n_tokens * (n_tokens + 1.0) * n_heads;
    return Row{"mla_prefill", shape, us, 0, 0, 2.0 * (kQueryDim + kValueDim) * pairs / us * 1e-6};
  });
}

}  // namespace

void bench_attention(const Machine& on) {
  for (const DType type : {DType::f16, DType::q8_0}) {
    for (const uint32_t n_heads : {16u, 128u}) {
      for (const uint32_t n_positions : {4096u, 32768u}) {
        for (const uint32_t n_tokens : {1u, 8u, 32u}) {
          bench_absorbed(on, type, n_heads, n_positions, n_tokens);
        }
      }
    }
  }
  for (const uint32_t n_heads : {16u, 128u}) bench_prefill(on, n_heads, 4096);
}

}  // namespace hybrid::gpu
