// What a plan says is what a run takes: to the byte where memory is taken once, as an upper bound
// where threads keep buffers for the largest call they have met.

#include "runtime/run_plan.h"

#include <doctest/doctest.h>

#include <memory>
#include <thread>

#include "runtime/engine.h"
#include "runtime/placement_plan.h"
#include "tests/runtime/sequence_cases.h"
#include "tests/support/aligned_memory.h"
#include "tests/support/expect_error.h"
#include "tests/support/sanitized.h"
#include "tests/support/simd_levels.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// DeepSeek R1's dimensions.
ModelConfig r1_config() {
  ModelConfig c;
  c.n_layers = 61;
  c.n_dense_lead = 3;
  c.n_embd = 7168;
  c.n_ff_dense = 18432;
  c.n_vocab = 129280;
  c.n_ctx_train = 163840;
  c.mla = {128, 128, 64, 128, 512, 1536};
  c.moe.n_experts = 256;
  c.moe.n_used = 8;
  c.moe.n_shared = 1;
  c.moe.ff_dim = 2048;
  return c;
}

SequencePlan r1_plan(const AttentionOptions& attention, uint32_t n_ctx = 163840) {
  return plan_sequence(r1_config(), {}, n_ctx, {.attention = attention});
}

const std::filesystem::path kDemo = HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf";

EngineOptions engine_options(const std::filesystem::path& model, uint32_t n_ctx,
                             const AttentionOptions& attention) {
  EngineOptions o;
  o.model = model;
  o.n_ctx = n_ctx;
  o.execution.attention = attention;
  o.pack = o.prepare_decode = simd_level() != SimdLevel::scalar;
  return o;
}

RunSettings settings_of(const EngineOptions& o) {
  return {o.n_ctx, o.execution, o.pack, o.prepare_decode};
}

/// Prompts of every form, and single tokens.
void run_some(Sequence& sequence) {
  for (const uint32_t n : {1u, 2u, 7u, 20u, 100u, 1u}) {
    append(sequence, tokens_from(0, std::min(n, sequence.n_free())));
  }
}

std::vector<AttentionOptions> all_attention() {
  std::vector<AttentionOptions> all;
  for (const MlaMode mla : kMlaModes) {
    for (const bool flash : {true, false}) {
      for (const DType type : {DType::f16, DType::f32, DType::q8_0}) {
        for (const uint64_t amb : {512 * kMiB, uint64_t{100003}, uint64_t{0}}) {
          all.push_back({mla, flash, amb, type, type});
        }
      }
    }
  }
  return all;
}

/// Calls check at every level with all options.
template <class Check>
void for_all_attention(const Check& check) {
  for (const SimdLevel level : simd_levels()) {
    LevelScope scope;
    REQUIRE(scope.set(level));
    for (const AttentionOptions& attention : all_attention()) {
      CAPTURE(name_of(level));
      CAPTURE(static_cast<int>(attention.mla));
      CAPTURE(attention.flash);
      CAPTURE(attention.max_scratch_bytes);
      CAPTURE(static_cast<int>(attention.key_type));
      check(level, attention);
    }
  }
}

}  // namespace

TEST_CASE("R1's cache at 163840 tokens, by the layout of its rows") {
  const auto cache = [](AttentionOptions o) { return r1_plan(o).cache_bytes; };
  CHECK(cache({.mla = MlaMode::unabsorbed_prefill}) == 10980 * kMiB);
  CHECK(cache({.mla = MlaMode::absorbed}) == 10980 * kMiB);
  CHECK(cache({.mla = MlaMode::absorbed_transposed}) == 10980 * kMiB);
  CHECK(cache({.mla = MlaMode::absorbed_transposed, .flash = false}) == 20740 * kMiB);
  CHECK(cache({.mla = MlaMode::standard}) == uint64_t{61} * 128 * (192 + 128) * 2 * 163840);
  // 16 blocks of 34 bytes for the latent, 64 halves for the rotary part.
  CHECK(cache({.key_type = DType::q8_0}) == uint64_t{61} * (16 * 34 + 64 * 2) * 163840);
  CHECK(cache({.mla = MlaMode::standard, .key_type = DType::q8_0, .value_type = DType::q8_0}) ==
        uint64_t{61} * 128 * (4 * 34 + 64 * 2 + 4 * 34) * 163840);
}

TEST_CASE("R1's scratch of attention keeps to -amb at the whole context") {
  for (const MlaMode mla :
       {MlaMode::absorbed_transposed, MlaMode::absorbed, MlaMode::unabsorbed_prefill}) {
    CAPTURE(static_cast<int>(mla));
    const SequencePlan scores = r1_plan({mla, false, 2048 * kMiB});
    CHECK(scores.attention.n_bytes() < 2560 * kMiB);
    CHECK(scores_bytes(scores.attention.sizes(), scores.attention.options()) == 2048 * kMiB);
    CHECK(r1_plan({mla, true, 512 * kMiB}).attention.n_bytes() < 1280 * kMiB);
    CHECK(scores.attention.thread_bytes() < 8 * kMiB);
  }
  // 163840 floats and 512 queries are 320 MiB a head.
  const ScoreSteps steps = score_steps(128, 512, 163840, 2048 * kMiB);
  CHECK(steps.n_heads == 6);
  CHECK(steps.n_tokens == 512);
  CHECK(steps.n_steps(128, 512) == 22);
}

TEST_CASE("a sequence takes what its plan says, and no more when it runs") {
  const TinyFile file({.quantised = true});
  for_all_attention([&](SimdLevel, const AttentionOptions& attention) {
    const Model model(file.path, ExpertGroups::automatic);
    for (const bool fused : {true, false}) {
      CAPTURE(fused);
      Sequence sequence(model, 200, {.n_ubatch = 60, .attention = attention, .fused_moe = fused});
      const SequencePlan& plan = sequence.plan();
      CHECK(sequence.cache().n_bytes() == plan.cache_bytes);
      CHECK(sequence.held_bytes() == plan.buffer_bytes);
      run_some(sequence);
      CHECK(sequence.held_bytes() == plan.buffer_bytes);
    }
  });
}

TEST_CASE("what threads keep is at most what the plan says, and not far from it") {
  for_all_attention([](SimdLevel level, const AttentionOptions& attention) {
    if (kIsSanitized && level == SimdLevel::scalar) return;  // minutes
    uint64_t kept = 0, planned = 0;
    std::thread([&] {  // a new thread has no buffers yet
      Model model(kDemo, ExpertGroups::automatic);
      Workers workers(1);
      if (level != SimdLevel::scalar) model.prepare_decode(workers);
      Sequence sequence(model, 200, {.n_ubatch = 60, .attention = attention});
      const uint64_t before = aligned_bytes();
      run_some(sequence);
      kept = aligned_bytes() - before;
      planned = sequence.plan().thread_bytes;
    })
        .join();
    CAPTURE(kept);
    CAPTURE(planned);
    CHECK(kept <= planned);
    CHECK(planned < 2 * kept + 65536);
  });
}

TEST_CASE("weights, too, take what the plan from headers alone says") {
  const TempDir dir;
  const std::string bytes = tiny_model({.quantised = true}).bytes();
  for (const SimdLevel level : simd_levels()) {
    LevelScope scope;
    REQUIRE(scope.set(level));
    for (const auto& path : {kDemo, dir.write("m.gguf", bytes)}) {
      for (const AttentionOptions& attention :
           {AttentionOptions{}, AttentionOptions{MlaMode::standard, false}}) {
        const EngineOptions options = engine_options(path, 64, attention);
        const Engine engine(options);
        const ModelHeaders headers(path, ExpertGroups::automatic);
        const RunPlan plan =
            plan_run(headers.file, headers.config, headers.weights, settings_of(options));
        CHECK(engine.model().packed_bytes() + engine.model().decode_bytes() ==
              plan.weights.panels + plan.weights.decode);
        CHECK(engine.model().decode_bytes() == plan.weights.decode);
        const RunPlan same = engine.plan(64);
        CHECK(same.needed_bytes() == plan.needed_bytes());
        CHECK(same.weights.mapped == plan.weights.mapped);
        const Sequence sequence = engine.make_sequence();
        CHECK(sequence.plan().n_bytes() == plan.sequence.n_bytes());
        CHECK(sequence.held_bytes() == plan.sequence.buffer_bytes);
      }
    }
  }
}

TEST_CASE("what rules leave on DISK is not taken, is planned so, and gives the same bits") {
  const TempDir dir;
  const std::string file = dir.write("m.gguf", tiny_model({.quantised = true}).bytes());
  const auto engine_with = [&](const std::string& rules) {
    EngineOptions options = engine_options(file, 64, {});
    if (!rules.empty()) options.placement.rules = parse_rules(rules, "-ot");
    return std::make_unique<Engine>(options);
  };
  for (const SimdLevel level : simd_levels()) {
    LevelScope scope;
    REQUIRE(scope.set(level));
    CAPTURE(name_of(level));
    const auto all = engine_with("");
    const auto run = [](const Engine& engine) {
      Sequence sequence = engine.make_sequence();
      std::vector<float> logits = append(sequence, tokens_from(0, 20));
      const std::vector<float> one = append(sequence, tokens_from(20, 1));
      logits.insert(logits.end(), one.begin(), one.end());
      return logits;
    };
    const std::vector<float> expected = run(*all);
    // Whole nets, one of gate and up, everything.
    for (const std::string rules : {R"(_exps=DISK)", R"(blk\.1\.ffn_up_exps=DISK)",
                                    R"(ffn_gate_shexp=DISK,attn_q=DISK)", ".=DISK"}) {
      CAPTURE(rules);
      const auto engine = engine_with(rules);
      const Model& model = engine->model();
      CHECK(model.packed_bytes() + model.decode_bytes() ==
            engine->plan(64).weights.panels + engine->plan(64).weights.decode);
      const ModelHeaders headers(file, ExpertGroups::automatic);
      const RunSettings settings = settings_of(engine->options());
      const PlacementPlan plan = plan_placement(headers, settings, engine->rules(), this_machine());
      CHECK(plan.run.weights.panels == engine->plan(64).weights.panels);
      CHECK(plan.run.needed_bytes() == engine->plan(64).needed_bytes());
      CHECK(plan.loads.front().n_bytes() == plan.run.needed_bytes());
      CHECK(plan.disk_bytes > 0);
      if (level != SimdLevel::scalar) CHECK(model.packed_bytes() < all->model().packed_bytes());
      CHECK(run(*engine) == expected);
    }
    if (level != SimdLevel::scalar) CHECK(engine_with(".=DISK")->model().packed_bytes() == 0);
  }
  std::vector<PlacementRule> part = parse_rules("ffn_up_exps=DISK", "-ot");
  part.front().experts = ExpertRange{0, 3};
  EngineOptions options = engine_options(file, 64, {});
  options.placement.rules = part;
  CHECK(error_of([&] { Engine engine(options); }) ==
        "-ot: ffn_up_exps=DISK experts 0-3: DISK takes whole tensors, and other experts of "
        "blk.1.ffn_up_exps.weight are elsewhere");
}

TEST_CASE("each tensor has a layout, and its bytes are counted once") {
  const TempDir dir;
  GgufBuilder gguf = tiny_model({.quantised = true});
  gguf.add_tensor("left.over", DType::f32, {8});
  const ModelHeaders model(dir.write("m.gguf", gguf.bytes()), ExpertGroups::automatic);
  const auto plan_with = [&](bool pack) {
    return plan_run(model.file, model.config, model.weights, {.pack = pack});
  };
  const RunPlan packed = plan_with(true), mapped = plan_with(false);
  CHECK(packed.sequence.n_ctx == kTinyContext);
  REQUIRE(packed.tensors.size() == model.file.tensors().size());
  uint64_t n_mapped = 0, n_all = 0;
  for (size_t i = 0; i < packed.tensors.size(); ++i) {
    const GgufTensorInfo& info = packed.tensors[i].tensor->info;
    const TensorLayout layout = packed.tensors[i].layout;
    CAPTURE(info.name);
    if (info.name == "left.over") {
      CHECK(layout == TensorLayout::unused);
    } else if (info.name.find("norm") != std::string::npos) {
      CHECK(layout == TensorLayout::floats);
    } else if (info.name == "token_embd.weight" || info.name.find("kv_b") != std::string::npos ||
               info.name.find("ffn_gate_inp") != std::string::npos) {
      CHECK(layout == TensorLayout::mapped);
    } else {
      CHECK(layout == TensorLayout::panels);
      CHECK(mapped.tensors[i].layout == TensorLayout::mapped);
    }
    if (layout == TensorLayout::mapped) n_mapped += info.n_bytes;
    if (layout == TensorLayout::mapped || layout == TensorLayout::panels) n_all += info.n_bytes;
  }
  CHECK(packed.weights.mapped == n_mapped);
  CHECK(mapped.weights.mapped == n_all);
  CHECK(mapped.weights.panels == 0);
  CHECK(model.config.notes.back() == "1 tensors of the file are not used: left.over");
}

TEST_CASE("a plan reads no tensor data: the file may end behind its headers") {
  const TempDir dir;
  const std::string bytes = tiny_model({.quantised = true}).bytes();
  const auto whole = dir.write("whole.gguf", bytes);
  uint64_t data = bytes.size();
  const GgufFile file = GgufFile::open(whole);
  for (const GgufTensor& t : file.tensors()) data = std::min(data, t.info.offset);
  const ModelHeaders headers(dir.write("headers.gguf", bytes.substr(0, data)),
                             ExpertGroups::automatic);
  const ModelHeaders model(whole, ExpertGroups::automatic);
  const RunPlan plan = plan_run(headers.file, headers.config, headers.weights, {});
  CHECK(plan.needed_bytes() ==
        plan_run(model.file, model.config, model.weights, {}).needed_bytes());
}

TEST_CASE("what does not fit says why") {
  const TempDir dir;
  const ModelHeaders model(dir.write("m.gguf", tiny_model({.quantised = true}).bytes()),
                           ExpertGroups::automatic);
  const auto plan_with = [&](RunSettings s) {
    return plan_run(model.file, model.config, model.weights, s);
  };
  const RunPlan plan = plan_with({});
  CHECK(plan.why_not(plan.needed_bytes()).empty());
  CHECK(plan.why_not(plan.needed_bytes() - 1).find("with -rtr 0") != std::string::npos);
  CHECK(plan.why_not(1).find("lower -c or -ub") != std::string::npos);
  const RunPlan narrow =
      plan_with({.execution = {.attention = {.flash = false, .max_scratch_bytes = 60}}});
  CHECK(narrow.why_not(1 << 30).find("-amb: the limit of 60 B has no room") != std::string::npos);
}
