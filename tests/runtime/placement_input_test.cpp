// Pieces are the model's tensors, each part once, with the bytes that a run's plan has for them.

#include "runtime/placement_input.h"

#include <doctest/doctest.h>

#include "tests/runtime/sequence_cases.h"
#include "tests/support/expect_error.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr uint32_t kContext = 64;

RunSettings tiny_settings(bool pack) {
  RunSettings s;
  s.n_ctx = kContext;
  s.pack = pack;
  s.prepare_decode = simd_level() != SimdLevel::scalar;
  return s;
}

struct TinyInput {
  TinyFile file{{.quantised = true}};
  ModelHeaders headers{file.path, ExpertGroups::automatic};
  RunPlan plan;
  std::vector<PlacementRule> rules;
  PlacementInput input;

  explicit TinyInput(std::vector<PlacementRule> with_rules, bool pack = true)
      : plan(plan_run(headers.file, headers.config, headers.weights, tiny_settings(pack))),
        rules(std::move(with_rules)),
        input(make_placement_input(headers, plan, rules)) {}
  explicit TinyInput(const char* text) : TinyInput(parse_rules(text, "-ot")) {}

  const std::string& name(uint32_t piece) const {
    return input.inventory[input.model.pieces[piece].tensor].tensor->info.name;
  }
};

uint64_t sum(const PlacementInput& input, uint64_t PlacementPiece::*bytes) {
  uint64_t n = 0;
  for (const PlacementPiece& piece : input.model.pieces) n += piece.*bytes;
  return n;
}

}  // namespace

TEST_CASE("pieces together take what the run's plan says") {
  for (const SimdLevel level : simd_levels()) {
    LevelScope scope;
    REQUIRE(scope.set(level));
    for (const bool pack : {true, false}) {
      const TinyInput tiny(std::vector<PlacementRule>{}, pack);
      CHECK(sum(tiny.input, &PlacementPiece::cpu_bytes) == tiny.plan.weights.taken());
      CHECK(sum(tiny.input, &PlacementPiece::cache_bytes) == tiny.plan.sequence.cache_bytes);
      CHECK(sum(tiny.input, &PlacementPiece::cache_row_bytes) ==
            tiny.plan.sequence.cache_bytes / kContext);
      uint64_t n_bytes = 0;  // on a GPU: in panels, whether or not the CPU packs
      uint64_t n_taken = 0;
      for (const PlannedTensor& t : tiny.plan.tensors) {
        const bool is_small = t.layout == TensorLayout::floats;
        const uint64_t n =
            is_small ? t.tensor->info.n_bytes : packed_bytes(Weight{GgufFile::describe(*t.tensor)});
        n_bytes += n;
        if (t.is_up_projection) continue;
        const bool is_stack = t.tensor->info.name.find("_exps") != std::string::npos;
        const uint64_t n_matrices = is_stack ? t.tensor->info.ne[2] : 1;
        n_taken += device_stack_bytes(n_matrices, n / n_matrices) +
                   device_array_bytes(t.gpu_decode_bytes) + device_array_bytes(t.gpu_key_bytes);
      }
      CHECK(sum(tiny.input, &PlacementPiece::panel_bytes) == n_bytes);
      CHECK(sum(tiny.input, &PlacementPiece::accelerator_bytes) == n_taken);
    }
  }
}

TEST_CASE("experts of a tensor may fall to different rules") {
  std::vector<PlacementRule> rules = parse_rules("_exps=CUDA0,ffn_up_exps=CPU", "-ot");
  rules[0].experts = ExpertRange{0, 1};
  const TinyInput whole("none=CPU"), parted(rules);
  CHECK(sum(parted.input, &PlacementPiece::cpu_bytes) ==
        sum(whole.input, &PlacementPiece::cpu_bytes));
  CHECK(sum(parted.input, &PlacementPiece::token_bytes) ==
        sum(whole.input, &PlacementPiece::token_bytes));
  uint32_t n_first = 0;
  for (uint32_t i = 0; i < parted.input.model.pieces.size(); ++i) {
    const PlacementPiece& piece = parted.input.model.pieces[i];
    if (!piece.experts) continue;
    const bool is_first = piece.experts->first == 0;
    n_first += is_first;
    CHECK(piece.experts->last == (is_first ? 1 : parted.headers.config.moe.n_experts - 1));
    const bool is_up = parted.name(i).find("ffn_up_exps") != std::string::npos;
    CHECK(parted.input.rule_of[i] == (is_first ? std::optional(0u)
                                      : is_up  ? std::optional(1u)
                                               : std::nullopt));
  }
  CHECK(n_first == 3 * parted.headers.config.n_moe_layers());
}

TEST_CASE("a range of experts that no layer has is refused") {
  std::vector<PlacementRule> rules = parse_rules("ffn_up_exps=CUDA0", "-ot");
  rules[0].experts = ExpertRange{2, 99};
  const std::string error = error_of([&] { TinyInput{rules}; });
  CHECK(error.find("-ot: experts 2-99 of blk.1.ffn_up_exps.weight: it has ") == 0);
}

TEST_CASE("rules know what they match and what they decide") {
  const TinyInput tiny("ffn_up_exps=CPU,exps=CUDA0,ffn_up_exps\\.weight=CUDA1,nothing=CPU");
  const uint32_t n = tiny.headers.config.n_moe_layers();
  CHECK(tiny.input.n_matched == std::vector<uint32_t>{n, 3 * n, n, 0});
  CHECK(tiny.input.n_decided == std::vector<uint32_t>{n, 2 * n, 0, 0});
}

TEST_CASE("units are whole parts of layers, norms and routers where attention is") {
  const TinyInput tiny("none=CPU");
  for (uint32_t i = 0; i < tiny.input.model.pieces.size(); ++i) {
    const PlacementPiece& piece = tiny.input.model.pieces[i];
    const PlacementUnit& unit = tiny.input.model.units[piece.unit];
    const InventoryTensor& t = tiny.input.inventory[piece.tensor];
    CAPTURE(tiny.name(i));
    if (t.layer >= 0) CHECK(unit.layer == static_cast<uint32_t>(t.layer));
    CHECK((unit.kind == UnitKind::routed) == is_routed(t.role));
    if (t.role == TensorRole::router || (t.role == TensorRole::norm && t.layer >= 0)) {
      CHECK(unit.kind == UnitKind::attention);
    }
    if (tiny.name(i).starts_with("output")) {
      CHECK(unit.kind == UnitKind::output);
      CHECK(unit.layer == tiny.headers.config.n_layers);
    }
  }
}
