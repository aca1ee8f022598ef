// Chunks of attention on the matrix unit against the textbook form in double.

#include "attention/split_tiles.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

#if defined(__x86_64__)
namespace {

struct TileCase {
  uint32_t key_dim = 64, value_dim = 32;
  uint32_t n_queries = 1;
  bool is_f16 = true;
  float score_factor = 1;  // of scores whose deviation would be 1
  /// Positions of each chunk.
  std::vector<uint32_t> chunks = {};
};

/// Rows of several chunks, queries, and who sees what.
class TileInputs {
 public:
  /// visible(chunk, query): how many of the chunk's positions.
  template <class Visible>
  TileInputs(const TileCase& c, const Visible& visible) : case_(c) {
    uint32_t n = 0;
    for (const uint32_t n_positions : c.chunks) n += n_positions;
    // Rows have a gap behind them, as others' rows would be, and it is no number.
    row_bytes_ = c.key_dim * element_bytes() + 2 * element_bytes();
    rows_.assign((n + 1) * row_bytes_, std::byte{0xff});
    const std::vector<float> keys = random_floats(uint64_t{n} * c.key_dim, 1);
    for (uint64_t i = 0; i < keys.size(); ++i) {
      std::byte* to = rows_.data() + i / c.key_dim * row_bytes_ + i % c.key_dim * element_bytes();
      const f16_t half = f32_to_f16(keys[i]);
      if (c.is_f16) std::memcpy(to, &half, sizeof(half));
      if (!c.is_f16) std::memcpy(to, &keys[i], sizeof(float));
      values_.push_back(c.is_f16 ? f16_to_f32(half) : keys[i]);
    }
    q_ = random_floats(uint64_t{c.n_queries} * c.key_dim, 2);
    for (float& v : q_) v *= c.score_factor / std::sqrt(static_cast<float>(c.key_dim));
    for (uint32_t chunk = 0; chunk < c.chunks.size(); ++chunk) {
      for (uint32_t i = 0; i < c.n_queries; ++i) visible_.push_back(visible(chunk, i));
    }
  }

  void run(TileAttention& attention) const {
    attention.begin(q_.data(), case_.n_queries, case_.key_dim, case_.value_dim);
    uint64_t first = 0;
    for (size_t chunk = 0; chunk < case_.chunks.size(); ++chunk) {
      TileChunkArgs args;
      args.rows = rows_.data() + first * row_bytes_;
      args.row_bytes = row_bytes_;
      args.is_f16 = case_.is_f16;
      args.n_positions = case_.chunks[chunk];
      args.n_visible = &visible_[chunk * case_.n_queries];
      attention.add(args);
      first += args.n_positions;
    }
  }

  /// The error of all queries' outputs together; queries that see nothing must say so.
  double error(const TileAttention& attention) const {
    RelativeRms rms;
    for (uint32_t i = 0; i < case_.n_queries; ++i) {
      std::vector<double> out(case_.value_dim);
      double exact_sum = 0;
      const double max = exact_output(i, out, exact_sum);
      if (max == -INFINITY) {
        CHECK(attention.max(i) == -INFINITY);
        CHECK(attention.sum(i) == 0);
      } else {
        CHECK(attention.max(i) == doctest::Approx(max).epsilon(1e-4));
        // The error of a score is one of its weight: scores of some hundreds lose digits.
        const double sum = attention.sum(i) * std::exp(attention.max(i) - max);
        CHECK(sum == doctest::Approx(exact_sum).epsilon(1e-5 * (3 + case_.score_factor)));
      }
      std::vector<float> sums(case_.value_dim);
      attention.copy_sums(i, sums.data());
      for (uint32_t d = 0; d < case_.value_dim; ++d) {
        if (max == -INFINITY) {
          REQUIRE(sums[d] == 0);
        } else {
          rms.add(sums[d] / attention.sum(i), out[d]);
        }
      }
    }
    return rms.value();
  }

 private:
  uint64_t element_bytes() const { return case_.is_f16 ? sizeof(f16_t) : sizeof(float); }

  /// Returns the largest score.
  double exact_output(uint32_t query, std::vector<double>& out, double& sum) const {
    std::vector<double> scores;
    std::vector<uint64_t> positions;
    uint64_t first = 0;
    for (size_t chunk = 0; chunk < case_.chunks.size(); ++chunk) {
      for (uint32_t p = 0; p < visible_[chunk * case_.n_queries + query]; ++p) {
        double score = 0;
        for (uint32_t k = 0; k < case_.key_dim; ++k) {
          score += double{q_[uint64_t{query} * case_.key_dim + k]} * value(first + p, k);
        }
        scores.push_back(score);
        positions.push_back(first + p);
      }
      first += case_.chunks[chunk];
    }
    if (scores.empty()) return -INFINITY;
    const double max = *std::max_element(scores.begin(), scores.end());
    for (double& s : scores) sum += s = std::exp(s - max);
    for (size_t i = 0; i < scores.size(); ++i) {
      for (uint32_t d = 0; d < case_.value_dim; ++d) {
        out[d] += scores[i] / sum * value(positions[i], d);
      }
    }
    return max;
  }
  double value(uint64_t position, uint32_t element) const {
    return values_[position * case_.key_dim + element];
  }

  const TileCase& case_;
  uint64_t row_bytes_ = 0;
  std::vector<std::byte> rows_;
  std::vector<float> values_;  // what the rows hold
  std::vector<float> q_;
  std::vector<uint32_t> visible_;  // [chunks][n_queries]
};

/// Weights and values are single bf16 numbers.
constexpr double kTolerance = 2.5e-3;

}  // namespace

TEST_CASE("tiles: any number of positions and queries, halves and floats") {
  LevelScope level;
  if (!level.set(SimdLevel::amx)) return;
  TileAttention attention;
  for (const bool is_f16 : {true, false}) {
    for (const uint32_t n_positions :
         {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 63u, 100u, 127u, 128u}) {
      for (const uint32_t n_queries : {1u, 2u, 15u, 16u, 17u, 33u, 63u, 64u}) {
        TileCase c{64, 32, n_queries, is_f16};
        c.chunks = {n_positions};
        const TileInputs in(c, [&](uint32_t, uint32_t) { return n_positions; });
        in.run(attention);
        CAPTURE(is_f16);
        CAPTURE(n_positions);
        CAPTURE(n_queries);
        CHECK(in.error(attention) < kTolerance);
      }
    }
  }
}

TEST_CASE("tiles: every dimension of latents") {
  LevelScope level;
  if (!level.set(SimdLevel::amx)) return;
  TileAttention attention;
  const uint32_t dims[][2] = {{32, 32}, {64, 64}, {96, 32}, {96, 64}, {288, 256}, {576, 512}};
  for (const bool is_f16 : {true, false}) {
    for (const auto& [key_dim, value_dim] : dims) {
      TileCase c{key_dim, value_dim, 20, is_f16};
      c.chunks = {70, 128, 9};
      const TileInputs in(c, [&](uint32_t chunk, uint32_t) { return c.chunks[chunk]; });
      in.run(attention);
      CAPTURE(key_dim);
      CHECK(in.error(attention) < kTolerance);
    }
  }
}

TEST_CASE("tiles: queries that see a part of a chunk, nothing of it, or nothing at all") {
  LevelScope level;
  if (!level.set(SimdLevel::amx)) return;
  TileAttention attention;
  for (const bool is_f16 : {true, false}) {
    TileCase c{64, 64, 40, is_f16};
    c.chunks = {50, 128, 33};
    // A staircase; nothing of the first chunk and something of the later ones; every third nothing.
    const auto staircase = [&](uint32_t chunk, uint32_t i) {
      return chunk == 1 ? std::min(c.chunks[chunk], 7 * i) : chunk == 0 ? c.chunks[0] : 0;
    };
    const auto late = [&](uint32_t chunk, uint32_t i) {
      return chunk == 0 ? 0 : (i * 37 + chunk) % (c.chunks[chunk] + 1);
    };
    const auto some = [&](uint32_t chunk, uint32_t i) {
      return i % 3 == 0 ? 0 : std::min(c.chunks[chunk], i + 1);
    };
    for (int which = 0; which < 3; ++which) {
      const TileInputs in(c, [&](uint32_t chunk, uint32_t i) {
        return which == 0 ? staircase(chunk, i) : which == 1 ? late(chunk, i) : some(chunk, i);
      });
      in.run(attention);
      CAPTURE(which);
      CHECK(in.error(attention) < kTolerance);
    }
  }
}

TEST_CASE("tiles: a maximum that grows from chunk to chunk, and scores far apart") {
  LevelScope level;
  if (!level.set(SimdLevel::amx)) return;
  TileAttention attention;
  for (const float factor : {5.0f, 30.0f, 200.0f}) {
    TileCase c{96, 64, 25, true, factor};
    c.chunks = {3, 20, 128, 128, 128, 100};
    const TileInputs in(c, [&](uint32_t chunk, uint32_t) { return c.chunks[chunk]; });
    in.run(attention);
    CAPTURE(factor);
    CHECK(in.error(attention) < kTolerance);
  }
}

TEST_CASE("tiles: a query is the same bit for bit alone as among others") {
  LevelScope level;
  if (!level.set(SimdLevel::amx)) return;
  const std::vector<float> q = random_floats(64 * 64, 1), keys = random_floats(200 * 64, 2);
  constexpr uint32_t kBefore = 60;
  const auto run = [&](uint32_t first, uint32_t n, uint32_t query) {
    TileAttention attention;
    attention.begin(q.data() + first * 64, n, 64, 32);
    std::vector<uint32_t> visible(n);
    for (uint32_t i = 0; i < n; ++i) visible[i] = kBefore + first + i;
    TileChunkArgs args{reinterpret_cast<const std::byte*>(keys.data()), 64 * sizeof(float), false};
    // No more positions than the last query sees, as split_attention calls it.
    args.n_positions = kBefore + first + n - 1;
    args.n_visible = visible.data();
    attention.add(args);
    std::vector<float> out(32);
    attention.copy_sums(query - first, out.data());
    out.push_back(attention.max(query - first));
    out.push_back(attention.sum(query - first));
    return out;
  };
  for (uint32_t query = 0; query < 64; query += 7) {
    const std::vector<float> whole = run(0, 64, query);
    CHECK(run(query, 1, query) == whole);
    CHECK(run(query / 16 * 16, 16, query) == whole);
    if (query >= 4) CHECK(run(query - 4, 5, query) == whole);
  }
}
#endif
