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

struct Int8Inputs {
  std::vector<std::vector<ActivationBlock>> blocks;
  std::vector<const ActivationBlock*> rows;
  std::vector<std::vector<double>> values;  // what the blocks stand for

  Int8Inputs(uint64_t n_cols, uint64_t n_tokens) {
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
double worst_error(const PackedMatrix& w, const Int8Inputs& in, const std::vector<float>& y) {
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
  // 30 numbers that are whole at a scale of 1 decide for it.
  std::vector<float> x(40, 0.0f);
  for (int i = 0; i < 30; ++i) x[i] = static_cast<float>(i * 37 % 255 - 127);
  x[30] = 2.5f;   // to even: 2
  x[31] = -3.5f;  // to even: -4
  x[39] = 0.25f;
  float sum = -2;
  for (int i = 0; i < 30; ++i) sum += x[i];
  ActivationBlock block;
  std::memset(&block, 0x55, sizeof(block));
  quantize_row(x.data(), 40, &block);
  CHECK(block.scale[0] == 1.0f);
  for (int i = 0; i < 30; ++i) CHECK(int{block.q[i]} == static_cast<int>(x[i]));
  CHECK(int{block.q[30]} == 2);
  CHECK(int{block.q[31]} == -4);
  CHECK(block.sum32[0] == sum);
  CHECK(block.sum16[0] + block.sum16[1] == sum);
  CHECK(int{block.q[39]} == 127);
  CHECK(block.scale[1] == 0.25f / 127);
  for (int i = 40; i < 256; ++i) CHECK(int{block.q[i]} == 0);
  for (int g = 2; g < 8; ++g) CHECK(block.scale[g] == 0.0f);
}

TEST_CASE("the scale of bytes is the one of several with the least error") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = random_floats(32 * 400, 8);
  double error = 0, first_error = 0;
  for (size_t g = 0; g < x.size(); g += 32) {
    ActivationBlock block;
    quantize_row(x.data() + g, 32, &block);
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[g + i]));
    for (int i = 0; i < 32; ++i) {
      const float first = largest / 127 * std::nearbyint(x[g + i] / (largest / 127));
      error += std::pow(x[g + i] - block.scale[0] * block.q[i], 2);
      first_error += std::pow(x[g + i] - first, 2);
    }
  }
  CHECK(error < 0.87 * first_error);
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
  std::vector<ActivationBlock> scalar(12), other(12);
  test::LevelScope scope;
  scope.set(SimdLevel::scalar);
  quantize_row(x.data(), 1024, scalar.data(), scalar.data() + 4);
  quantize_row(x.data(), 1024, scalar.data() + 8);
  for (const SimdLevel level : {SimdLevel::avx2, SimdLevel::avx512_vnni, SimdLevel::amx}) {
    if (!scope.set(level)) continue;
    quantize_row(x.data(), 1024, other.data(), other.data() + 4);
    quantize_row(x.data(), 1024, other.data() + 8);
    CHECK(std::memcmp(scalar.data(), other.data(), sizeof(ActivationBlock) * 12) == 0);
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

TEST_CASE("words: within half of one scale for 256 columns, each four in the order 0 2 1 3") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const std::vector<float> x = random_floats(700, 6);
  std::vector<ActivationBlock> first(3), second(3);
  quantize_row_to_words(x.data(), 700, first.data(), second.data());
  for (uint64_t b = 0; b < 3; ++b) {
    const float scale = first[b].scale[0];
    float largest = 0;
    for (uint64_t i = 0; i < 256; ++i) {
      const float value = 256 * b + i < 700 ? x[256 * b + i] : 0.0f;
      const uint64_t at = i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
      int16_t word;
      std::memcpy(&word, (i < 128 ? first : second)[b].q + 2 * (at % 128), 2);
      CHECK(std::abs(scale * word - value) <= 0.5001f * scale);
      largest = std::max(largest, std::abs(value));
    }
    CHECK(scale == largest / kMaxActivationWord);
    CHECK(second[b].scale[0] == scale);
  }
}

TEST_CASE("words: zeros, tiny values, values that are not finite, the same bits at every level") {
  std::vector<float> x(6 * 256, 0.0f);
  for (int i = 256; i < 512; ++i) x[i] = 2e-38f;  // 1 / scale would overflow
  for (int i = 512; i < 768; ++i) x[i] = static_cast<float>(i % 7) - 3.3f;
  x[3 * 256 + 9] = NAN, x[4 * 256 + 200] = INFINITY, x[5 * 256 + 3] = -2;
  HYBRID_AT_EACH_SIMD_LEVEL();
  std::vector<ActivationBlock> words(12);
  std::memset(words.data(), 0, words.size() * sizeof(words[0]));
  quantize_row_to_words(x.data(), x.size(), words.data(), words.data() + 6);
  for (int b : {0, 1}) CHECK(words[b].scale[0] == 0.0f);
  for (int b : {0, 1, 6, 7}) CHECK(int{words[b].q[17]} == 0);
  for (int b : {3, 4, 9, 10}) CHECK(std::isnan(words[b].scale[0]));
  CHECK(words[5].scale[0] == 2.0f / kMaxActivationWord);
  std::vector<ActivationBlock> scalar(12);
  std::memset(scalar.data(), 0, scalar.size() * sizeof(scalar[0]));
  const SimdLevel level = simd_level();
  test::LevelScope scope;
  scope.set(SimdLevel::scalar);
  quantize_row_to_words(x.data(), x.size(), scalar.data(), scalar.data() + 6);
  scope.set(level);
  CHECK(std::memcmp(words.data(), scalar.data(), words.size() * sizeof(words[0])) == 0);
}

TEST_CASE("integer kernels of every type: exact integers, float rounding alone") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const DTypeInfo& info : all_dtypes()) {
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
          const Int8Inputs in(w.n_cols, n_tokens);
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
  const std::vector<float> x = random_floats(512, 7);
  std::vector<ActivationBlock> bytes(2 * 2);
  quantize_row(x.data(), 512, &bytes[0], &bytes[2]);
  const ActivationBlock* const row[] = {&bytes[0], &bytes[2]};
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q8_0, DType::iq3_s}) {
    const PackedMatrix w(type, 512, 40, 5);
    std::vector<float> y(40);
    kernels_of(type).one_token({w.view(), row, 2, 1, y.data(), 40}, 0, 3);
    double error = 0, norm = 0;
    for (uint64_t r = 0; r < 40; ++r) {
      double sum = 0;
      for (uint64_t c = 0; c < 512; ++c) sum += double{w.values[r * 512 + c]} * x[c];
      error += std::pow(y[r] - sum, 2);
      norm += sum * sum;
    }
    CHECK(std::sqrt(error / norm) < 1e-4);
  }
}

namespace {

/// Tokens as words, and their floats.
struct WordInputs {
  std::vector<float> x;
  std::vector<std::vector<ActivationBlock>> blocks;
  std::vector<const ActivationBlock*> rows;

  WordInputs(std::vector<float> values, uint64_t n_cols) : x(std::move(values)) {
    for (uint64_t t = 0; t < x.size() / n_cols; ++t) {
      const uint64_t n = n_activation_blocks(n_cols);
      blocks.emplace_back(2 * n);
      quantize_row_to_words(x.data() + t * n_cols, n_cols, blocks.back().data(),
                            blocks.back().data() + n);
      rows.push_back(blocks.back().data());
      rows.push_back(blocks.back().data() + n);
    }
  }
  uint64_t n_tokens() const { return rows.size() / 2; }
};

std::vector<float> word_products(const PackedMatrix& w, const WordInputs& in) {
  std::vector<float> y(w.n_rows * in.n_tokens(), NAN);
  kernels_of(w.type).many_tokens({w.view(), in.rows.data(), 2, in.n_tokens(), y.data(), w.n_rows},
                                 0, w.view().n_panels());
  return y;
}

/// Distance from the products of the floats, relative to a bound that no cancelling makes small:
/// the lengths of row and token multiplied.
double word_error(const PackedMatrix& w, const WordInputs& in, const std::vector<float>& y) {
  double error = 0, norm = 0;
  for (uint64_t t = 0; t < in.n_tokens(); ++t) {
    for (uint64_t r = 0; r < w.n_rows; ++r) {
      double sum = 0, row = 0, token = 0;
      for (uint64_t c = 0; c < w.n_cols; ++c) {
        const double a = w.values[r * w.n_cols + c], b = in.x[t * w.n_cols + c];
        sum += a * b;
        row += a * a;
        token += b * b;
      }
      error += std::pow(y[t * w.n_rows + r] - sum, 2);
      norm += row * token;
    }
  }
  return std::isnan(error) ? INFINITY : std::sqrt(error / norm);
}

}  // namespace

TEST_CASE("products of words, every type: shapes that are no multiples of blocks and tiles") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const DTypeInfo& info : all_dtypes()) {
    if (kernels_of(info.type).many_tokens == nullptr) continue;
    CAPTURE(info.name);
    for (const uint64_t n_blocks : {1, 3, 11}) {
      const uint64_t n_cols = n_blocks * info.block_size;
      for (const uint64_t n_rows : {1, 16, 53}) {
        const PackedMatrix w(info.type, n_cols, n_rows, 5);
        for (const uint64_t n : {uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{15}, uint64_t{16},
                                 uint64_t{17}, kWordTokens}) {
          if (n > 3 && (n_rows != 53 || n_blocks == 3)) continue;
          CAPTURE(n_cols);
          CAPTURE(n_rows);
          CAPTURE(n);
          const WordInputs in(random_floats(n_cols * n, 7), n_cols);
          CHECK(word_error(w, in, word_products(w, in)) < 1e-3);
        }
      }
    }
  }
}

TEST_CASE("products of words: the largest weights and activations leave no 32 bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const int sign : {1, -1}) {
    std::vector<std::byte> bytes(row_bytes(DType::q8_0, 512) * 16);
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto q = static_cast<std::byte>(sign * 127);
      bytes[i] = i % 34 == 0 ? std::byte{0} : i % 34 == 1 ? std::byte{0x3c} : q;  // scale 1.0
    }
    const PackedMatrix w(DType::q8_0, 512, 16, bytes);
    const WordInputs in(std::vector<float>(512 * 7, 3.0f), 512);
    for (const float y : word_products(w, in)) {
      CHECK(y == doctest::Approx(sign * 127.0 * 3 * 512).epsilon(1e-4));
    }
  }
}

TEST_CASE("products of words: an outlier costs its 256 columns a thousandth of it, a NaN shows") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const DType type : {DType::q4_k, DType::iq4_nl, DType::q6_k}) {
    const PackedMatrix w(type, 512, 40, 5);
    std::vector<float> x = random_floats(512 * 9, 7);
    for (uint64_t t = 0; t < 9; ++t) x[512 * t + 31 * t] *= 1000;
    CHECK(word_error(w, {x, 512}, word_products(w, {x, 512})) < 1.2e-3);
    x[512 * 4 + 300] = NAN;
    const std::vector<float> y = word_products(w, {x, 512});
    for (uint64_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i / 40 == 4));
  }
}

TEST_CASE("products of words have the same bits whatever the panels and tokens beside them") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const DType type : {DType::q4_k, DType::q6_k, DType::iq4_nl, DType::iq2_xs}) {
    const PackedMatrix w(type, 512, 75, 5);
    const WordInputs in(random_floats(512 * 17, 7), 512);
    const std::vector<float> all = word_products(w, in);
    std::vector<float> parts(75 * 17, NAN);
    for (uint64_t p = 0; p < 5; ++p) {
      for (uint64_t t = 0; t < 17; ++t) {
        kernels_of(type).many_tokens({w.view(), &in.rows[2 * t], 2, 1, parts.data() + t * 75, 75},
                                     p, p + 1);
      }
    }
    CHECK(std::memcmp(all.data(), parts.data(), all.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("a row of a product has the same bits whatever the panels and tokens beside it") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  if (simd_level() == SimdLevel::scalar) return;
  for (const DType type : {DType::q4_k, DType::q6_k, DType::q8_0, DType::iq2_xs}) {
    const PackedMatrix w(type, 512, 75, 5);
    const Int8Inputs in(512, 7);
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
