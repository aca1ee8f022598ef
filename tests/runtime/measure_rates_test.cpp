// Which rates a model needs, and that each is measured. How large they are is no test's business.

#include "runtime/measure_rates.h"

#include <doctest/doctest.h>

#include <cmath>

#include "runtime/run_plan.h"
#include "tests/support/real_headers.h"
#include "tests/support/simd_levels.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const RateKind* find_kind(const RateRequest& request, RateOp op, DType type, bool packed = true) {
  for (const RateKind& kind : request.kinds) {
    if (kind.op == op && kind.type == type && kind.packed == packed) return &kind;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("a model needs the rates of its types, in the sizes of a layer") {
  const TempDir dir;
  const ModelHeaders lite(dir.write("lite.gguf", lite_headers({.down_type = DType::iq4_nl})),
                          ExpertGroups::automatic);
  const auto needed = [&](bool pack, const TensorSet& kept) {
    return rates_needed(lite.config, lite.weights, DType::f16, pack, kept);
  };
  const RateRequest all = needed(true, {});
  CHECK(all.kinds.size() == 5);
  const RateKind* attention = find_kind(all, RateOp::product, DType::q4_k);
  REQUIRE(attention != nullptr);
  REQUIRE(attention->sizes.size() == 3);  // attn_kv_a_mqa, attn_q from the same tokens, attn_output
  CHECK(attention->sizes[0].n_rows == 576);
  CHECK_FALSE(attention->sizes[0].same_input);
  CHECK(attention->sizes[1].n_rows == 3072);
  CHECK(attention->sizes[1].same_input);
  CHECK_FALSE(attention->sizes[2].same_input);
  CHECK(find_kind(all, RateOp::product, DType::f32) != nullptr);   // the router
  CHECK(find_kind(all, RateOp::product, DType::q6_k) != nullptr);  // the output
  const RateKind* experts = find_kind(all, RateOp::experts, DType::q4_k);
  REQUIRE(experts != nullptr);
  CHECK(experts->sizes[0].n_cols == 2048);
  CHECK(experts->sizes[0].n_rows == 1536);  // 1408, in whole blocks
  REQUIRE(find_kind(all, RateOp::experts, DType::iq4_nl) != nullptr);
  CHECK(find_kind(all, RateOp::experts, DType::iq4_nl)->sizes[0].n_rows == 1408);
  // What stays in the file is multiplied from there.
  const TensorSet kept{lite.weights.layers.back().experts.front().w.down.source};
  const RateRequest some = needed(true, kept);
  CHECK(some.kinds.size() == 6);
  CHECK(find_kind(some, RateOp::experts, DType::iq4_nl, false) != nullptr);
  const RateRequest none = needed(false, {});
  CHECK(find_kind(none, RateOp::experts, DType::q4_k, false) != nullptr);
  CHECK(find_kind(none, RateOp::experts, DType::q4_k, true) == nullptr);
}

TEST_CASE("of several rounds the median counts, of two the faster") {
  const auto round = [](double a, double b) {
    return std::vector<MeasuredRate>{{.op = RateOp::product, .n_tokens = 1, .flop_per_s = a},
                                     {.op = RateOp::product, .n_tokens = 8, .flop_per_s = b}};
  };
  CHECK(typical_rates({}).empty());
  CHECK(typical_rates({round(3, 4)}) == round(3, 4));
  CHECK(typical_rates({round(3, 4), round(5, 2)}) == round(5, 4));
  CHECK(typical_rates({round(3, 4), round(5, 2), round(4, 9)}) == round(4, 4));
}

TEST_CASE("each kind is measured, with one token and with many, at every level") {
  const TempDir dir;
  const ModelHeaders tiny(dir.write("m.gguf", tiny_model({.quantised = true}).bytes()),
                          ExpertGroups::automatic);
  for (const SimdLevel level : simd_levels()) {
    LevelScope scope;
    REQUIRE(scope.set(level));
    CAPTURE(name_of(level));
    const RateRequest request =
        rates_needed(tiny.config, tiny.weights, DType::f16, level != SimdLevel::scalar, {});
    Workers workers(2);
    const RateEffort effort{.buffer_bytes = 1 << 20, .seconds_of_each = 1e-3};
    const RateTable table(measure_rates(request, effort, workers));
    for (const MeasuredRate& r : table.rates()) CHECK(std::isfinite(r.flop_per_s));
    for (const RateKind& kind : request.kinds) {
      for (const double n : {1.0, 8.0, 512.0}) {
        CHECK(table.has(kind.op, kind.type, kind.packed));
        CHECK(table.element_seconds(kind.op, kind.type, kind.packed, n).has_value());
      }
    }
    const AttentionWork work{.shape = request.attention};
    for (const uint64_t n : {1u, 512u}) {
      CHECK(table.attention_seconds(work, DType::f16, 1000, n).has_value());
    }
    const std::atomic<bool> stop = true;
    CHECK(measure_rates(request, effort, workers, &stop).empty());
  }
}
