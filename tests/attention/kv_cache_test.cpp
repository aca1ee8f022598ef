#include "attention/kv_cache.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

KvCache::Shape shape_of(DType type, uint32_t n, uint32_t n_exact) {
  return {
      .n_layers = 3, .n_ctx = 5, .n_heads = 2, .key = {type, n, n_exact}, .value = {type, 7, 0}};
}

}  // namespace

TEST_CASE("rows come back as the type keeps them") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    KvCache cache(shape_of(type, 70, 6));
    const std::vector<float> key = random_floats(76, 9), value = random_floats(7, 4);
    cache.store(2, 1, 4, key.data(), value.data());
    std::vector<float> scratch(76);
    const float* loaded = cache.load_keys(2, 1, 4, 1, scratch.data());
    const double tolerance = type == DType::f32 ? 0 : type == DType::f16 ? 1e-3 : 2e-2;
    for (size_t i = 0; i < key.size(); ++i) {
      CHECK(std::abs(loaded[i] - key[i]) <= (i < 70 ? tolerance : std::min(tolerance, 2e-3)));
    }
    loaded = cache.load_values(2, 1, 4, 1, scratch.data());
    for (size_t i = 0; i < value.size(); ++i) CHECK(std::abs(loaded[i] - value[i]) <= tolerance);
    CHECK_THROWS(cache.store(2, 1, 5, key.data(), value.data()));
    CHECK_THROWS(cache.store(3, 1, 0, key.data(), value.data()));
    CHECK_THROWS(cache.store(0, 2, 0, key.data(), value.data()));
  }
}

TEST_CASE("bytes are as the map says") {
  CHECK(CacheRow{DType::f32, 512, 64}.n_bytes() == 576 * 4);
  CHECK(CacheRow{DType::f16, 512, 64}.n_bytes() == 576 * 2);
  CHECK(CacheRow{DType::q8_0, 512, 64}.n_bytes() == 16 * 34 + 64 * 2);
  CHECK(CacheRow{DType::q8_0, 70, 6}.n_bytes() == 3 * 34 + 12);
  CHECK(shape_of(DType::f16, 70, 6).n_bytes() == 3 * 2 * 5 * (76 + 7) * 2);
  KvCache::Shape latent{.n_layers = 61, .n_ctx = 163840, .key = {DType::f16, 512, 64}};
  CHECK(latent.n_bytes() == uint64_t{10980} << 20);
  latent.transposed = true;
  CHECK(latent.n_bytes() == uint64_t{20740} << 20);
  latent.n_layers = UINT32_MAX;
  latent.n_ctx = UINT32_MAX;
  latent.n_heads = UINT32_MAX;
  CHECK_THROWS_AS(static_cast<void>(latent.n_bytes()), Error);
}

TEST_CASE("floats lie where floats may, beside blocks of bytes, too") {
  for (const bool are_keys : {false, true}) {
    const CacheRow floats{DType::f32, 7, 0}, blocks{DType::q8_0, 32, 0};
    const KvCache cache({.n_layers = 3,
                         .n_ctx = 5,
                         .key = are_keys ? floats : blocks,
                         .value = are_keys ? blocks : floats});
    for (uint32_t layer = 0; layer < 3; ++layer) {
      const float* rows = are_keys ? cache.load_keys(layer, 0, 0, 1, nullptr)
                                   : cache.load_values(layer, 0, 0, 1, nullptr);
      CHECK(reinterpret_cast<uintptr_t>(rows) % alignof(float) == 0);
    }
  }
}

TEST_CASE("a block of q8_0 is what ggml would make of it, at every level") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> x = random_floats(32, 3);
  x[5] = -3.5f;  // the largest: quant -127, scale 3.5 / 127
  const CacheRow row{DType::q8_0, 32, 0};
  std::vector<std::byte> bytes(row.n_bytes());
  row.store(x.data(), bytes.data());
  CHECK(static_cast<int8_t>(bytes[2 + 5]) == -127);
  std::vector<float> back(32);
  row.load(bytes.data(), 1, back.data());
  for (int i = 0; i < 32; ++i) CHECK(std::abs(back[i] - x[i]) <= 3.5 / 127 * 0.51);
  const std::vector<float> zeros(32);
  row.store(zeros.data(), bytes.data());
  row.load(bytes.data(), 1, back.data());
  CHECK(back == zeros);
}

TEST_CASE("the transposed copy holds the first elements of the keys") {
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    KvCache cache({.n_layers = 2, .n_ctx = 40, .key = {type, 8, 4}, .transposed = true});
    for (uint32_t p = 0; p < 40; ++p) {
      const std::vector<float> key(12, static_cast<float>(p));
      cache.store(1, 0, p, key.data(), nullptr);
    }
    std::vector<float> column(30);
    cache.load_transposed(1, 7, 10, 30, column.data());
    for (uint32_t p = 0; p < 30; ++p) CHECK(column[p] == static_cast<float>(p + 10));
  }
}

TEST_CASE("a prefix is copied whole, into another length of context") {
  for (const bool transposed : {false, true}) {
    KvCache::Shape shape{.n_layers = 2, .n_ctx = 40, .key = {DType::f16, 8, 4}};
    shape.transposed = transposed;
    KvCache from(shape);
    shape.n_ctx = 9;
    KvCache to(shape);
    for (uint32_t p = 0; p < 40; ++p) {
      for (uint32_t layer = 0; layer < 2; ++layer) {
        const std::vector<float> key(12, static_cast<float>(p + 100 * layer));
        from.store(layer, 0, p, key.data(), nullptr);
      }
    }
    to.copy_prefix(from, 9);
    std::vector<float> keys(12 * 9), column(9);
    to.load_keys(1, 0, 0, 9, keys.data());
    for (uint32_t p = 0; p < 9; ++p) CHECK(keys[12 * p + 11] == static_cast<float>(p + 100));
    if (!transposed) continue;
    to.load_transposed(1, 3, 0, 9, column.data());
    for (uint32_t p = 0; p < 9; ++p) CHECK(column[p] == static_cast<float>(p + 100));
  }
}
