// Times from measured rates, by hand, and the form in which files keep the rates.

#include "placement/rates.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "placement/json_file.h"
#include "placement/step_cost.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

MeasuredRate rate(RateOp op, DType type, uint32_t n_tokens, double flop_per_s, bool packed = true) {
  return {.op = op, .type = type, .n_tokens = n_tokens, .flop_per_s = flop_per_s, .packed = packed};
}

/// Of an element with n tokens: 1, 1.5 and 4 ns.
std::vector<MeasuredRate> experts_of(DType type, double slower = 1) {
  return {rate(RateOp::experts, type, 1, 2e9 / slower),
          rate(RateOp::experts, type, 9, 12e9 / slower),
          rate(RateOp::experts, type, 100, 50e9 / slower)};
}

const doctest::Approx approx(double x) { return doctest::Approx(x).epsilon(1e-9); }

/// 2 heads; with keys of 4 and values of 3 elements, cached keys have 8.
AttentionWork small_work(MlaMode mode) {
  return {{.n_heads = 2, .qk_nope = 3, .qk_rope = 1, .v_dim = 3, .kv_lora = 7}, mode, DType::f16};
}

}  // namespace

TEST_CASE("an element's time lies on the lines between what was measured") {
  const RateTable table(experts_of(DType::q4_k));
  const auto ns = [&](double n) {
    return *table.element_seconds(RateOp::experts, DType::q4_k, true, n) * 1e9;
  };
  CHECK(ns(1) == approx(1));
  CHECK(ns(5) == approx(1.25));
  CHECK(ns(9) == approx(1.5));
  CHECK(ns(54.5) == approx(2.75));
  CHECK(ns(100) == approx(4));
  CHECK(ns(200) == approx(8));  // beyond the last one the rate stays
  CHECK_FALSE(table.element_seconds(RateOp::product, DType::q4_k, true, 1).has_value());
}

TEST_CASE("one token says nothing of many, nor many of one") {
  const RateTable one({rate(RateOp::product, DType::q4_k, 1, 2e9)});
  CHECK(one.element_seconds(RateOp::product, DType::q4_k, true, 1).has_value());
  CHECK_FALSE(one.element_seconds(RateOp::product, DType::q4_k, true, 2).has_value());
  const RateTable many({rate(RateOp::product, DType::q4_k, 16, 2e9)});
  CHECK_FALSE(many.element_seconds(RateOp::product, DType::q4_k, true, 1).has_value());
  CHECK(many.element_seconds(RateOp::product, DType::q4_k, true, 2).has_value());
}

TEST_CASE("types that were not measured are as slow as the slowest") {
  std::vector<MeasuredRate> rates = experts_of(DType::q4_k);
  for (const MeasuredRate& r : experts_of(DType::q6_k, 2)) rates.push_back(r);
  rates.push_back(rate(RateOp::experts, DType::f32, 1, 1e6));  // never a quantised type's
  const RateTable table(rates);
  CHECK(*table.element_seconds(RateOp::experts, DType::q8_0, true, 9) == approx(3e-9));
  // Of another layout: those of the same type.
  CHECK(*table.element_seconds(RateOp::experts, DType::q4_k, false, 9) == approx(1.5e-9));
  CHECK(table.has(RateOp::experts, DType::q4_k, true));
  CHECK_FALSE(table.has(RateOp::experts, DType::q4_k, false));
  CHECK_FALSE(table.has(RateOp::product, DType::q4_k, true));
}

TEST_CASE("attention's work in each mode") {
  // absorbed: 8 + 7 for each of n * (past + (n + 1) / 2) keys, and (3 + 3) * 7 for each query
  CHECK(small_work(MlaMode::absorbed).flop(10, 3) == approx(2 * 2 * 3 * (12 * 15 + 42)));
  // standard: 4 + 3 for each key, and the tokens' own keys and values
  CHECK(small_work(MlaMode::standard).flop(10, 3) == approx(2 * 2 * (3 * 12 * 7 + 3 * 42)));
  // un-absorbed: the same, and keys and values of what is cached; or absorbed where that is less
  CHECK(small_work(MlaMode::unabsorbed_prefill).flop(10, 30) ==
        approx(2 * 2 * (30 * 25.5 * 7 + 40 * 42)));
  CHECK(small_work(MlaMode::unabsorbed_prefill).flop(10, 1) ==
        approx(small_work(MlaMode::absorbed).flop(10, 1)));
}

TEST_CASE("attention's time is a line in what is cached, and scales with its work") {
  const AttentionWork work = small_work(MlaMode::absorbed);
  const auto point = [&](uint32_t n_tokens, uint32_t n_past, double seconds) {
    return MeasuredRate{.op = RateOp::attention,
                        .type = DType::f16,
                        .n_tokens = n_tokens,
                        .n_past = n_past,
                        .flop_per_s = work.flop(n_past, n_tokens) / seconds};
  };
  const RateTable table({point(1, 100, 2), point(1, 300, 4), point(64, 0, 7)});
  const auto seconds = [&](uint64_t n_past, uint64_t n_tokens) {
    return *table.attention_seconds(work, DType::f16, n_past, n_tokens);
  };
  CHECK(seconds(100, 1) == approx(2));
  CHECK(seconds(200, 1) == approx(3));
  CHECK(seconds(500, 1) == approx(6));
  CHECK(seconds(0, 1) == approx(1));
  CHECK(seconds(0, 64) == approx(7));
  CHECK(seconds(0, 32) == approx(7 * work.flop(0, 32) / work.flop(0, 64)));
  CHECK(seconds(50, 64) == approx(7 * work.flop(50, 64) / work.flop(0, 64)));
  // Rows of another type: what there is.
  CHECK(*table.attention_seconds(work, DType::q8_0, 100, 1) == approx(2));
  CHECK_FALSE(RateTable().attention_seconds(work, DType::f16, 100, 1).has_value());
}

TEST_CASE("a step takes what its parts take at measured rates") {
  // A layer: attention's matrix with the cache, and 8 experts of which a token takes 2.
  PlacementModel model{.n_layers = 1, .units = {}, .pieces = {}};
  model.hidden_bytes = 10 * sizeof(float);
  model.attention = small_work(MlaMode::absorbed);
  model.units = {{UnitKind::attention, 0}, {UnitKind::routed, 0}, {UnitKind::output, 1}};
  PlacementPiece attention{.unit = 0, .panel_bytes = 500, .token_bytes = 500};
  attention.token_flop = 2 * 1000, attention.type = DType::q6_k, attention.cache_row_bytes = 16;
  PlacementPiece routed{.unit = 1, .panel_bytes = 4000, .token_bytes = 1000};
  routed.token_flop = 2 * 2000, routed.type = DType::q4_k;
  PlacementPiece output = attention;
  output.unit = 2, output.cache_row_bytes = 0;
  PlacementPiece up = attention;  // its time is in attention's
  up.in_attention = true, up.cache_row_bytes = 0;
  model.pieces = {attention, routed, output, up};
  std::vector<MeasuredRate> rates = experts_of(DType::q4_k);
  for (const uint32_t n : {1u, 64u}) {
    rates.push_back(rate(RateOp::product, DType::q6_k, n, n * 2e6));  // 1 us an element
    rates.push_back(rate(RateOp::layer, DType::f32, n, n * 2e3));     // 1 ms
    const double seconds = n == 1 ? 0.25 : 0.5;
    for (const uint32_t past : {0u, 100u}) {
      rates.push_back({.op = RateOp::attention,
                       .type = DType::f16,
                       .n_tokens = n,
                       .n_past = past,
                       .flop_per_s = model.attention.flop(past, n) / seconds});
    }
  }
  std::vector<PlacementDevice> devices{{.speed = {.read_rate = 1, .rates = RateTable(rates)}}};
  const StepCost cost(model, devices);
  const Placement placement{{0, 0}, {0, 0, 0, 0}};
  const double matrix = 1000 * 1e-6, layer = 10 * 1e-3;
  CHECK(cost.step_seconds(placement, {}) == approx(0.25 + layer + matrix + 2000 * 1e-9 + matrix));
  // 64 tokens: all 8 experts (but for 1e-8 of them) with 16 each; the line from 9 to 100 tokens.
  const double expert_ns = 1.5 + 2.5 * 7 / 91;
  const StepSize batch{.n_tokens = 64, .n_past = 50};
  CHECK(cost.step_seconds(placement, batch) ==
        doctest::Approx(0.5 + layer + matrix + 8000 * expert_ns * 1e-9 + matrix).epsilon(1e-6));
  // From the disk at 100 bytes a second, longer than its products take.
  model.pieces[1].on_disk = true;
  devices[0].speed.disk_rate = 100;
  CHECK(cost.step_seconds(placement, {}) == approx(0.25 + layer + matrix + 1000.0 / 100 + matrix));
}

TEST_CASE("rates are read as they were written") {
  const TempDir dir;
  std::vector<MeasuredRate> rates = experts_of(DType::iq4_xs);
  rates.push_back({.op = RateOp::attention,
                   .type = DType::q8_0,
                   .n_tokens = 512,
                   .n_past = 4096,
                   .flop_per_s = 640.5e9,
                   .packed = false,
                   .measured = "2026-11-21T19:50Z"});
  const std::string path = dir.write("r.json", rates_json(rates).dump()).string();
  const JsonFile file(path, "rates");
  CHECK(read_rates(file.root()) == rates);
}

TEST_CASE("what is no rate is refused with its place") {
  const TempDir dir;
  const auto error = [&](const std::string& text) {
    const std::string path = dir.write("r.json", "[" + text + "]").string();
    const JsonFile file(path, "rates");
    return error_of([&] { read_rates(file.root()); });
  };
  CHECK(error(R"({"op": "expert", "type": "Q4_K", "tokens": 1, "gflops": 1})")
            .find("expected product, experts, attention, layer, found \"expert\"") !=
        std::string::npos);
  CHECK(error(R"({"op": "experts", "type": "Q4_KM", "tokens": 1, "gflops": 1})")
            .find("expected a type as `inspect` names it") != std::string::npos);
  CHECK(error(R"({"op": "experts", "type": "Q4_K", "tokens": 0, "gflops": 1})").find("tokens") !=
        std::string::npos);
  CHECK(error(R"({"op": "experts", "type": "Q4_K", "tokens": 1, "gflops": 0})").find("gflops") !=
        std::string::npos);
  CHECK(error(R"({"op": "experts", "type": "Q4_K", "tokens": 1, "past": 3, "gflops": 1})")
            .find("attention") != std::string::npos);
  CHECK(error(R"({"op": "experts", "type": "Q4_K", "tokens": 1})").find("gflops") !=
        std::string::npos);
}
