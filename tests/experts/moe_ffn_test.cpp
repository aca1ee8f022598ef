// The routed experts against the formula in double: at every level within what the level promises,
// and the same bits in every layout and on any threads.

#include "experts/moe_ffn.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/vector_ops.h"
#include "tests/experts/expert_case.h"
#include "tests/support/accuracy.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// What the level in force may lose, relative RMS over what is added.
double max_error(const FfnTypes& types, uint64_t n_tokens, Spread spread) {
  const auto all = {types.gate, types.up, types.down};
  const auto count = [&](auto&& is) { return std::count_if(all.begin(), all.end(), is); };
  if (simd_level() == SimdLevel::scalar) return 2e-6;
  if (simd_level() == SimdLevel::amx && n_tokens > 1) {
    return count([](DType t) { return t == DType::f32; }) == 3 ? 2e-6 : 0.006;
  }
  if (count([](DType t) { return info_of(t).block_size > 1; }) == 0) return 2e-6;
  return spread == Spread::gaussian ? 0.020 : 0.024;
}

/// Every level, layout and number of threads. `used`: a scratch that other cases have left their
/// numbers in.
void check_case(const MoeCase& c, MoeFfnScratch& used) {
  CAPTURE(c.n_tokens());
  CAPTURE(c.n_used);
  LevelScope scope;
  Workers one(1), two(2), three(3);
  const std::vector<ExpertWeights> layouts = c.experts.layouts();
  for (const SimdLevel level : simd_levels()) {
    scope.set(level);
    CAPTURE(static_cast<int>(level));
    const std::vector<float> y = c.run(layouts[0], one);
    RelativeRms rms;
    c.add_errors(y, rms);
    // Of few outputs the error scatters; the test of every type has many.
    CHECK(rms.value() <= 1.5 * max_error(c.experts.types(), c.n_tokens(), Spread::gaussian));
    CHECK(same_bits(c.run(layouts[0], two, used), y));
    CHECK(same_bits(c.run(layouts[0], three, used), y));
    for (size_t i = 1; i < layouts.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(c.run(layouts[i], one, used), y));
      CHECK(same_bits(c.run(layouts[i], three, used), y));
    }
  }
}

/// Numbers of tokens, and of rows that an expert gets; expert 6 and 7 of 8 may get none.
void check_counts(const FfnTypes& types, uint64_t n_embd, uint64_t n_ff) {
  CAPTURE(std::string(name_of(types.gate)));
  CAPTURE(std::string(name_of(types.up)));
  CAPTURE(std::string(name_of(types.down)));
  CAPTURE(n_embd);
  CAPTURE(n_ff);
  const TestExperts experts(types, n_embd, n_ff, 8);
  static MoeFfnScratch used;
  for (const uint64_t n_tokens : {1, 2, 5, 17, 70}) {
    check_case({experts, 3, random_ids(n_tokens, 3, 6), Spread::gaussian}, used);
  }
  check_case({experts, 1, std::vector<int32_t>(70, 4), Spread::gaussian}, used);
  std::vector<int32_t> ids;  // rows of expert e:
  const int n_rows[] = {1, 0, 17, 2, 15, 3, 16, 0};
  for (int e = 0; e < 8; ++e) ids.insert(ids.end(), n_rows[e], e);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(3));
  check_case({experts, 1, ids, Spread::gaussian}, used);
}

}  // namespace

TEST_CASE("nets of every type at every level are near the formula in double") {
  constexpr uint64_t kTokens = 20;
  LevelScope scope;
  Workers workers(2);
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const TestExperts experts({info.type, info.type, info.type}, 1024, 256, 4);
    for (const Spread spread : {Spread::gaussian, Spread::outliers}) {
      const MoeCase c(experts, 2, random_ids(kTokens, 2, 4), spread);
      for (const SimdLevel level : simd_levels()) {
        scope.set(level);
        CAPTURE(static_cast<int>(level));
        for (const uint64_t n_tokens : {uint64_t{1}, kTokens}) {
          if (level == SimdLevel::scalar && n_tokens == 1) continue;  // slow, and nothing new
          CAPTURE(n_tokens);
          RelativeRms rms;
          for (uint64_t t = 0; t < kTokens; t += n_tokens) {
            const MoeCase part = c.tokens(t, n_tokens);
            part.add_errors(part.run(experts.packed(), workers), rms);
          }
          CHECK(rms.value() <= max_error(experts.types(), n_tokens, spread));
          print_accuracy("moe_ffn {:11} {:7} {:2} tokens, {}: {:.3f} %", name_of(level), info.name,
                         n_tokens, spread == Spread::gaussian ? "gaussian" : "outliers",
                         100 * rms.value());
        }
      }
    }
  }
}

TEST_CASE("float nets: any number of rows, widths that fill no panel, no tile and no block") {
  check_counts({DType::f32, DType::f32, DType::f32}, 40, 24);
  check_counts({DType::f16, DType::f16, DType::f16}, 96, 48);
  check_counts({DType::f16, DType::f16, DType::f16}, 72, 16);
  check_counts({DType::bf16, DType::bf16, DType::bf16}, 33, 57);
}

TEST_CASE("quantised nets: any number of rows, hidden widths of 5.5 blocks") {
  check_counts({DType::q8_0, DType::q8_0, DType::q8_0}, 96, 352);
  check_counts({DType::q4_0, DType::q4_0, DType::q5_1}, 160, 352);
  check_counts({DType::q4_k, DType::q4_k, DType::q5_0}, 256, 352);
  check_counts({DType::iq4_xs, DType::iq4_xs, DType::iq4_nl}, 256, 96);
  check_counts({DType::mxfp4, DType::mxfp4, DType::mxfp4}, 96, 160);
  check_counts({DType::q2_k, DType::q2_k, DType::q3_k}, 256, 256);
}

TEST_CASE("gate and up of different types, and down of any other") {
  check_counts({DType::q4_k, DType::q6_k, DType::q8_0}, 256, 96);
  check_counts({DType::q5_0, DType::f16, DType::bf16}, 64, 80);
  check_counts({DType::bf16, DType::f16, DType::q4_0}, 64, 96);
  check_counts({DType::iq2_s, DType::q8_0, DType::f32}, 256, 48);
  check_counts({DType::f32, DType::f32, DType::q8_0}, 48, 96);
  check_counts({DType::q8_0, DType::q8_0, DType::f16}, 96, 16);
}

TEST_CASE("as single products: near the formula, the same bits in every layout, on any threads") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), three(3);
  for (const FfnTypes& types : {FfnTypes{DType::q4_k, DType::q4_k, DType::q5_0},
                                FfnTypes{DType::q5_0, DType::f16, DType::bf16},
                                FfnTypes{DType::f32, DType::f32, DType::f32}}) {
    CAPTURE(std::string(name_of(types.gate)));
    const TestExperts experts(types, 256, 352, 8);
    MoeFfnScratch scratch;
    for (const uint64_t n_tokens : {1, 5, 70}) {
      CAPTURE(n_tokens);
      const MoeCase c(experts, 3, random_ids(n_tokens, 3, 6), Spread::gaussian);
      scratch.reserve(c.shape(), 256, n_tokens, false);
      CHECK(scratch.held_bytes() >= scratch.composed.held_bytes());
      const std::vector<float> y = c.run(experts.packed(), one, scratch, false);
      CHECK(scratch.ffn.held_bytes() == 0);  // the other form's
      RelativeRms rms;
      c.add_errors(y, rms);
      CHECK(rms.value() <= 1.5 * max_error(types, n_tokens, Spread::gaussian));
      for (const ExpertWeights& layout : experts.layouts()) {
        CHECK(same_bits(c.run(layout, three, scratch, false), y));
      }
    }
  }
}

TEST_CASE("ten runs have the same bits, in a scratch that other runs have used") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers one(1), three(3);
  const TestExperts experts({DType::q4_k, DType::q4_k, DType::q6_k}, 256, 256, 16);
  const TestExperts other({DType::f16, DType::f16, DType::f16}, 96, 48, 4);
  MoeFfnScratch scratch;
  for (const uint64_t n_tokens : {1, 33}) {
    const MoeCase c(experts, 4, random_ids(n_tokens, 4, 16), Spread::gaussian);
    const std::vector<float> y = c.run(experts.packed(), one);
    for (int run = 0; run < 10; ++run) {
      CHECK(same_bits(c.run(experts.packed(), three, scratch), y));
      const MoeCase between(other, 2, random_ids(run, 2, 4), Spread::gaussian);
      between.run(other.packed(), three, scratch);
    }
  }
}

TEST_CASE("slots are added in the order of k, as the formula says") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const TestExperts experts({DType::q4_k, DType::q4_k, DType::q5_0}, 256, 96, 6);
  const MoeCase all(experts, 3, {4, 0, 3}, Spread::gaussian);
  std::vector<float> y(256);
  for (uint32_t k = 0; k < 3; ++k) {
    MoeCase one = all;
    one.n_used = 1;
    one.ids = {all.ids[k]};
    one.weights = {1};
    const std::vector<float> out = one.run(experts.packed(), workers);
    vector_ops().axpy(all.weights[k], out.data(), y.data(), y.size());
  }
  CHECK(same_bits(all.run(experts.packed(), workers), y));
}

TEST_CASE("what was reserved is enough: a step takes no memory") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(2);
  const TestExperts experts({DType::q4_k, DType::q4_k, DType::q4_0}, 256, 352, 8);
  for (const uint64_t most : {1, 2, 70}) {
    CAPTURE(most);
    MoeFfnScratch scratch;
    const MoeCase c(experts, 3, random_ids(most, 3, 8), Spread::gaussian);
    scratch.reserve(c.shape(), 256, most);
    const std::byte* places[] = {scratch.out.data(), scratch.ffn.gathered.data(),
                                 scratch.ffn.hidden.tiles(0)};
    const uint64_t n_bytes = scratch.out.n_bytes() + scratch.ffn.gathered.n_bytes();
    CHECK(n_bytes <= MoeFfnScratch::n_bytes(c.shape(), 256, most));
    for (const uint64_t n_tokens : {most, uint64_t{1}, most}) {
      c.tokens(0, n_tokens).run(experts.packed(), workers, scratch);
      CHECK(scratch.out.data() == places[0]);
      CHECK(scratch.ffn.gathered.data() == places[1]);
      CHECK(scratch.ffn.hidden.tiles(0) == places[2]);
    }
  }
}

TEST_CASE("no tokens: nothing comes out; shapes that do not agree are refused") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  Workers workers(1);
  const TestExperts experts({DType::q8_0, DType::q8_0, DType::q8_0}, 64, 32, 4);
  const TestExperts wider({DType::q8_0, DType::q8_0, DType::q8_0}, 96, 32, 4);
  CHECK(MoeCase(experts, 2, {}, Spread::gaussian).run(experts.packed(), workers).empty());
  const MoeCase c(experts, 2, {0, 1, 2, 3}, Spread::gaussian);
  CHECK_THROWS_AS(c.run(wider.packed(), workers), Error);
  ExpertWeights mixed = experts.packed();
  mixed.down = wider.packed().down;
  CHECK_THROWS_AS(c.run(mixed, workers), Error);
  MoeCase fewer = c;
  fewer.weights.pop_back();
  CHECK_THROWS_AS(fewer.run(experts.packed(), workers), Error);
  MoeCase unknown = c;
  unknown.ids[2] = 4;
  CHECK_THROWS_AS(unknown.run(experts.packed(), workers), Error);
}

TEST_CASE("routes are a stable sort by expert") {
  const std::vector<int32_t> ids{3, 1, 3, 0, 1, 3};
  const Routes routes = sort_by_expert(ids, 5);
  CHECK(routes.slots == std::vector<uint32_t>{3, 1, 4, 0, 2, 5});
  CHECK(routes.offsets == std::vector<uint32_t>{0, 1, 3, 3, 6, 6});
  CHECK(routes.active == std::vector<uint32_t>{0, 1, 3});
  CHECK_THROWS(sort_by_expert(std::vector<int32_t>{5}, 5));
  CHECK_THROWS(sort_by_expert(std::vector<int32_t>{-1}, 5));
}

TEST_CASE("experts of several parts, and rows that were made elsewhere: the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const TestExperts experts({DType::q4_k, DType::q4_k, DType::q5_0}, 256, 96, 8);
  Workers two(2);
  for (const uint64_t n_tokens : {1, 2, 17, 70}) {
    const MoeCase c(experts, 3, random_ids(n_tokens, 3, 8), Spread::gaussian);
    for (const bool fused : {true, false}) {
      CAPTURE(fused);
      for (const ExpertWeights& w : experts.layouts()) {
        MoeFfnScratch scratch;
        const std::vector<float> expected = c.run(w, two, scratch, fused);
        const auto part = [&](uint32_t first, uint32_t n) {
          return ExpertPart{first, n, w.range(first, n)};
        };
        MatmulInput input;
        input.set(c.x.data(), n_tokens, 256);
        MoeFfnArgs args{input, nullptr, c.ids, c.weights, fused};
        const auto rows_of = [&](const ExpertPart& p) {
          std::vector<float> rows(c.ids.size() * 256, -1);
          moe_rows(args, c.shape(), p, rows.data(), scratch, two);
          return rows;
        };
        const std::vector<float> low = rows_of(part(0, 2)), high = rows_of(part(5, 1));
        const ExpertRows elsewhere[] = {{0, 2, low.data()}, {5, 1, high.data()}};
        const ExpertPart here[] = {part(2, 3), part(6, 2)};
        std::vector<float> y = c.unwritten();
        int n_calls = 0;
        const std::function<void()> arrive = [&] { ++n_calls; };
        args.y = y.data();
        args.elsewhere = elsewhere;
        args.arrive = &arrive;
        moe_ffn(args, c.shape(), here, scratch, two);
        CHECK(same_bits(y, expected));
        CHECK(n_calls == 1);
        // All of them elsewhere.
        const std::vector<float> all = rows_of(part(0, 8));
        const ExpertRows everything[] = {{0, 8, all.data()}};
        args.elsewhere = everything;
        std::ranges::fill(y, -1.0F);
        moe_ffn(args, c.shape(), std::span<const ExpertPart>{}, scratch, two);
        CHECK(same_bits(y, expected));
      }
    }
  }
}
