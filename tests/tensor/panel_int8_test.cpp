#include "tensor/panel_int8.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "tensor/dequantize.h"
#include "tests/support/aligned.h"
#include "tests/support/panels.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using test::PackedMatrix;
using test::random_floats;

namespace {

std::span<const DTypeInfo> dtypes() {
  size_t count = 0;
  const DTypeInfo* types = all_dtypes(count);
  return {types, count};
}

Int8Kernels kernels_of(DType type) {
  return with_simd_level([&]<SimdLevel L>() -> Int8Kernels {
    if constexpr (L == SimdLevel::scalar) {
      return {};
    } else {
      for (const Int8Kernels k :
           {int8_kernels_legacy<L>(type), int8_kernels_k<L>(type), int8_kernels_iq<L>(type)}) {
        if (k.one_token != nullptr) return k;
      }
      return {};
    }
  });
}

struct Inputs {
  std::vector<std::vector<ActivationBlock>> blocks;
  std::vector<const ActivationBlock*> rows;
  std::vector<std::vector<double>> values;  // what the blocks stand for

  Inputs(uint64_t n_cols, uint64_t n_tokens) {
    const std::vector<float> x = random_floats(n_cols * n_tokens, 7);
    for (uint64_t t = 0; t < n_tokens; ++t) {
      blocks.emplace_back(n_activation_blocks(n_cols));
      quantize_row(x.data() + t * n_cols, n_cols, blocks.back().data());
      values.emplace_back(n_cols);
      for (uint64_t c = 0; c < n_cols; ++c) {
        const ActivationBlock& b = blocks.back()[c / 256];
        values.back()[c] = static_cast<double>(b.scale[c % 256 / 32]) * b.q[c % 256];
      }
    }
    for (const auto& row : blocks) rows.push_back(row.data());
  }
};

/// Largest distance from the exact product of what both sides stand for, relative to the sum of the
/// products' magnitudes.
double worst_error(const PackedMatrix& w, const Inputs& in, const std::vector<float>& y) {
  double worst = 0;
  for (uint64_t r = 0; r < w.n_rows; ++r) {
    for (size_t t = 0; t < in.rows.size(); ++t) {
      double sum = 0, magnitude = 1e-30;
      for (uint64_t c = 0; c < w.n_cols; ++c) {
        const double product = w.values[r * w.n_cols + c] * in.values[t][c];
        sum += product;
        magnitude += std::abs(product);
      }
      const double error = std::abs(y[t * w.n_rows + r] - sum) / magnitude;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("rounding to bytes: exact values, ties, zeros, columns past the end") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> x(40, 0.0f);
  x[0] = 127;
  x[1] = -127;
  x[2] = 2.5f;   // to even: 2
  x[3] = -3.5f;  // to even: -4
  x[39] = 0.25f;
  ActivationBlock block;
  std::memset(&block, 0x55, sizeof(block));
  quantize_row(x.data(), 40, &block);
  CHECK(block.scale[0] == 1.0f);
  CHECK(int{block.q[0]} == 127);
  CHECK(int{block.q[1]} == -127);
  CHECK(int{block.q[2]} == 2);
  CHECK(int{block.q[3]} == -4);
  CHECK(block.sum32[0] == -2.0f);
  CHECK(block.sum16[0] == -2.0f);
  CHECK(block.sum16[1] == 0.0f);
  CHECK(int{block.q[39]} == 127);
  CHECK(block.scale[1] == 0.25f / 127);
  for (int i = 40; i < 256; ++i) CHECK(int{block.q[i]} == 0);
  for (int g = 2; g < 8; ++g) CHECK(block.scale[g] == 0.0f);
}

TEST_CASE("a value that is not finite shows in the scale, others stay") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x(64, 1.0f);
    x[5] = bad;
    ActivationBlock block;
    quantize_row(x.data(), 64, &block);
    CHECK(std::isnan(block.scale[0]));
    CHECK(block.scale[1] == 1.0f / 127);
  }
}

TEST_CASE("every level rounds activations to the same bits") {
  const std::vector<float> x = random_floats(1024, 3);
  std::vector<ActivationBlock> scalar(8), other(8);
  test::LevelScope scope;
  scope.set(SimdLevel::scalar);
  quantize_row(x.data(), 1024, scalar.data(), scalar.data() + 4);
  for (const SimdLevel level : {SimdLevel::avx2, SimdLevel::avx512_vnni, SimdLevel::amx}) {
    if (!scope.set(level)) continue;
    quantize_row(x.data(), 1024, other.data(), other.data() + 4);
    CHECK(std::memcmp(scalar.data(), other.data(), sizeof(ActivationBlock) * 8) == 0);
  }
}

TEST_CASE("the rest of a rounding: within 1/512 of the scale, whose 256th part is its own") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<float> x = random_floats(256, 4);
  for (int i = 32; i < 64; ++i) x[i] = 0;
  for (int i = 64; i < 96; ++i) x[i] *= 2e-38f;  // 1 / scale would overflow
  x[96] = 127, x[97] = 0.5f;                     // a whole half: 128 is cut to 127
  for (int i = 98; i < 128; ++i) x[i] = 0;
  ActivationBlock block, rest;
  quantize_row(x.data(), 256, &block, &rest);
  for (int g = 0; g < 8; ++g) {
    CAPTURE(g);
    const double scale = block.scale[g];
    CHECK(rest.scale[g] == block.scale[g] / 256);
    double sum = 0;
    for (int i = 32 * g; i < 32 * g + 32; ++i) {
      const double value = scale * block.q[i] + scale / 256 * rest.q[i];
      sum += value;
      CHECK(int{rest.q[i]} >= -127);
      if (g != 2) CHECK(std::abs(value - x[i]) <= scale / (i == 97 ? 255 : 500));
    }
    CHECK(std::abs(rest.sum32[g] - sum) <= 1e-5 * scale * 127);
    CHECK(std::abs(rest.sum16[2 * g] + rest.sum16[2 * g + 1] - sum) <= 1e-5 * scale * 127);
  }
  CHECK(block.scale[2] == 0.0f);
}

TEST_CASE("words: the integers of both parts, each four in the order 0 2 1 3") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = random_floats(250, 6);
  ActivationBlock block, rest, words[2];
  quantize_row(x.data(), 250, &block, &rest);
  quantize_row_to_words(x.data(), 250, &words[0], &words[1]);
  for (int i = 0; i < 256; ++i) {
    const int at = i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
    int16_t word;
    std::memcpy(&word, words[i / 128].q + 2 * (at % 128), 2);
    CHECK(int{word} == 256 * block.q[i] + rest.q[i]);
    CHECK(words[i / 128].scale[i / 32] == rest.scale[i / 32]);
    CHECK(words[i / 128].sum32[i / 32] == rest.sum32[i / 32]);
    CHECK(words[i / 128].sum16[i / 16] == rest.sum16[i / 16]);
  }
}

TEST_CASE("integer kernels of every type: exact integers, float rounding alone") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DTypeInfo& info : dtypes()) {
    const Int8Kernels kernels = kernels_of(info.type);
    const bool is_float = info.block_size == 1;
    CHECK((kernels.one_token == nullptr) == (is_float || simd_level() == SimdLevel::scalar));
    if (kernels.one_token == nullptr) continue;
    CAPTURE(info.name);
    for (const uint64_t n_blocks : {1, 3, 8}) {
      for (const uint64_t n_rows : {1, 16, 53}) {
        for (const uint64_t n_tokens :
             {uint64_t{1}, uint64_t{2}, uint64_t{7}, uint64_t{9}, kInt8Tokens}) {
          if (n_tokens == kInt8Tokens && n_rows != 53) continue;
          CAPTURE(n_blocks);
          CAPTURE(n_rows);
          CAPTURE(n_tokens);
          const PackedMatrix w(info.type, n_blocks * info.block_size, n_rows, 5);
          const Inputs in(w.n_cols, n_tokens);
          std::vector<float> y(n_rows * n_tokens, NAN);
          const Int8Product product{w.view(), in.rows.data(), 1, n_tokens, y.data(), n_rows};
          kernels.many_tokens(product, 0, w.view().n_panels());
          CHECK(worst_error(w, in, y) < 3e-7);
          if (n_tokens > 1) continue;
          std::fill(y.begin(), y.end(), NAN);
          kernels.one_token(product, 0, w.view().n_panels());
          CHECK(worst_error(w, in, y) < 3e-7);
        }
      }
    }
  }
}

TEST_CASE("a token in two parts is the sum of both") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  const std::vector<float> x = random_floats(512 * 5, 7);
  std::vector<ActivationBlock> blocks(2 * 2 * 5), bytes(2 * 2);
  std::vector<const ActivationBlock*> rows;
  for (uint64_t t = 0; t < 5; ++t) {
    quantize_row_to_words(x.data() + t * 512, 512, &blocks[4 * t], &blocks[4 * t + 2]);
    rows.push_back(&blocks[4 * t]);
    rows.push_back(&blocks[4 * t + 2]);
  }
  quantize_row(x.data() + 2 * 512, 512, &bytes[0], &bytes[2]);
  const ActivationBlock* const row[] = {&bytes[0], &bytes[2]};
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q8_0, DType::iq3_s}) {
    const PackedMatrix w(type, 512, 40, 5);
    const Int8Kernels kernels = kernels_of(type);
    std::vector<float> all(40 * 5), one(40), alone(40);
    kernels.many_tokens({w.view(), rows.data(), 2, 5, all.data(), 40}, 0, 3);
    kernels.many_tokens({w.view(), rows.data() + 4, 2, 1, alone.data(), 40}, 0, 3);
    CHECK(std::equal(alone.begin(), alone.end(), all.begin() + 2 * 40));
    kernels.one_token({w.view(), row, 2, 1, one.data(), 40}, 0, 3);
    double error = 0, norm = 0;
    for (uint64_t t = 0; t < 5; ++t) {
      for (uint64_t r = 0; r < 40; ++r) {
        double sum = 0;
        for (uint64_t c = 0; c < 512; ++c) sum += double{w.values[r * 512 + c]} * x[t * 512 + c];
        error += std::pow(all[t * 40 + r] - sum, 2);
        if (t == 2) CHECK(one[r] == doctest::Approx(all[t * 40 + r]).epsilon(1e-5));
        norm += sum * sum;
      }
    }
    CHECK(std::sqrt(error / norm) < 1e-4);
  }
}

TEST_CASE("a row of a product has the same bits whatever the panels and tokens beside it") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q8_0, DType::iq2_xs}) {
    const PackedMatrix w(type, 512, 75, 5);
    const Inputs in(512, 7);
    const Int8Kernels kernels = kernels_of(type);
    std::vector<float> all(75 * 7), parts(75 * 7, NAN);
    kernels.many_tokens({w.view(), in.rows.data(), 1, 7, all.data(), 75}, 0, 5);
    for (uint64_t p = 0; p < 5; ++p) {
      for (uint64_t t = 0; t < 7; ++t) {
        kernels.many_tokens({w.view(), &in.rows[t], 1, 1, parts.data() + t * 75, 75}, p, p + 1);
      }
    }
    CHECK(std::memcmp(all.data(), parts.data(), all.size() * sizeof(float)) == 0);
  }
}
