// The whole model in-process: every file layout gives the same logits, whatever the micro-batch and
// the threads; damaged files end in an Error.

#include "runtime/model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "runtime/engine.h"
#include "tests/support/accuracy.h"
#include "tests/support/expect_error.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;
using Kv = TinyModelOptions::Kv;

namespace {

const std::vector<TokenId> kTokens{0, 74, 103, 110, 110, 113, 34, 89, 17, 200, 66, 5};

/// Enough for un-absorbed attention.
std::vector<TokenId> many_tokens() {
  std::vector<TokenId> tokens;
  for (int i = 0; i < 4; ++i) tokens.insert(tokens.end(), kTokens.begin(), kTokens.end());
  return tokens;
}

ExecutionOptions in_mode(MlaMode mode, ExecutionOptions execution = {}) {
  execution.attention.mla = mode;
  return execution;
}

struct Pass {
  std::vector<float> logits;
  ExpertChoice choice;
};

Pass pass_of_file(const std::filesystem::path& path, ExecutionOptions execution = {},
                  ExpertGroups groups = ExpertGroups::automatic,
                  const std::vector<TokenId>& tokens = kTokens) {
  if (execution.attention.key_type == DType::f16) execution.attention.key_type = DType::f32;
  const Model model(path, groups);
  const auto n = static_cast<uint32_t>(tokens.size());
  Sequence sequence(model, n, execution);
  Pass pass{std::vector<float>(uint64_t{n} * model.config().n_vocab),
            ExpertChoice(model.config().n_moe_layers(), n, model.config().moe.n_used)};
  Sequence::AppendArgs args;
  args.tokens = tokens;
  args.n_logit_rows = n;
  args.logits = pass.logits.data();
  args.record = &pass.choice;
  REQUIRE(sequence.append(args));
  return pass;
}

Pass pass_of(const TinyModelOptions& options, ExecutionOptions execution = {},
             ExpertGroups groups = ExpertGroups::automatic,
             const std::vector<TokenId>& tokens = kTokens) {
  const TempDir dir;
  return pass_of_file(dir.write("tiny.gguf", tiny_model(options).bytes()), execution, groups,
                      tokens);
}

}  // namespace

TEST_CASE("the three layouts of the latent's up-projection are one model") {
  for (const uint32_t q_lora : {0u, 24u}) {
    const Pass merged = pass_of({.q_lora = q_lora});
    const Pass split_2d = pass_of({.q_lora = q_lora, .kv = Kv::split_2d});
    const Pass split_3d = pass_of({.q_lora = q_lora, .kv = Kv::split_3d, .newer_metadata = true});
    CHECK(std::isfinite(merged.logits[0]));
    CHECK(relative_error(split_2d.logits, merged.logits) < 1e-6);
    CHECK(split_3d.logits == split_2d.logits);
  }
}

TEST_CASE("merged gate and up are the same as separate ones") {
  CHECK(pass_of({.merged_gate_up = true}).logits == pass_of({}).logits);
}

TEST_CASE("newer metadata without the *_mla keys: head sizes come from the tensors") {
  const TempDir dir;
  GgufBuilder gguf = tiny_model({.kv = Kv::split_3d, .newer_metadata = true});
  std::string bytes = gguf.bytes();
  for (const std::string key :
       {"deepseek2.attention.key_length_mla", "deepseek2.attention.value_length_mla"}) {
    bytes[bytes.find(key) + key.size() - 1] = '_';  // an unknown key now
  }
  CHECK(pass_of_file(dir.write("m.gguf", bytes)).logits == pass_of({.kv = Kv::split_3d}).logits);
}

TEST_CASE("absorbed, neither micro-batch nor threads change a bit") {
  const Pass whole = pass_of({.q_lora = 24}, in_mode(MlaMode::absorbed));
  for (const uint32_t n_ubatch : {1u, 2u, 5u, 12u}) {
    for (const int n_threads : {1, 2, 3}) {
      const Pass other =
          pass_of({.q_lora = 24}, in_mode(MlaMode::absorbed, {.n_ubatch = n_ubatch,
                                                              .n_threads = n_threads,
                                                              .n_threads_batch = n_threads + 1}));
      CHECK(other.logits == whole.logits);
      CHECK(other.choice.ids == whole.choice.ids);
    }
  }
}

TEST_CASE("absorbed and un-absorbed attention are one model, up to rounding") {
  const auto run = [](Kv kv, const ExecutionOptions& execution) {
    return pass_of({.kv = kv}, execution, ExpertGroups::automatic, many_tokens());
  };
  const Pass absorbed = run(Kv::merged, in_mode(MlaMode::absorbed));
  for (const Kv kv : {Kv::merged, Kv::split_2d}) {
    const Pass unabsorbed = run(kv, {});
    CHECK(relative_error(unabsorbed.logits, absorbed.logits) < 1e-5);
    CHECK(unabsorbed.logits != absorbed.logits);  // it was another computation
    CHECK(unabsorbed.choice.ids == absorbed.choice.ids);
  }
  // Micro-batches of 47 and of 1 token: the last is absorbed.
  const Pass mixed = run(Kv::merged, {.n_ubatch = 47});
  CHECK(relative_error(mixed.logits, absorbed.logits) < 1e-5);
}

TEST_CASE("un-absorbed, too, micro-batch and threads do not change a bit") {
  const auto run = [](const ExecutionOptions& execution) {
    return pass_of({}, execution, ExpertGroups::automatic, many_tokens()).logits;
  };
  const std::vector<float> whole = run({});
  CHECK(run({.n_ubatch = 16}) == whole);
  CHECK(run({.n_ubatch = 24, .n_threads_batch = 3}) == whole);
}

TEST_CASE("groups, gating and selection bias each change the routing") {
  const Pass plain = pass_of({});
  const Pass grouped = pass_of({.n_groups = 4, .n_groups_used = 2});
  CHECK(plain.choice.ids != grouped.choice.ids);
  CHECK(pass_of({.n_groups = 4, .n_groups_used = 2}, {}, ExpertGroups::off).logits == plain.logits);
  CHECK(pass_of({.gating = 2}).logits != plain.logits);
  CHECK(pass_of({.selection_bias = true}).choice.ids != plain.choice.ids);
}

TEST_CASE("what the file leaves open is decided and told") {
  const TempDir dir;
  const auto config_of = [&](const TinyModelOptions& options, ExpertGroups groups) {
    return Model(dir.write("m.gguf", tiny_model(options).bytes()), groups).config();
  };
  const auto automatic = ExpertGroups::automatic;
  CHECK(config_of({.gating = 0}, automatic).moe.gating == Gating::softmax);
  CHECK(config_of({.selection_bias = true, .gating = 0}, automatic).moe.gating == Gating::sigmoid);
  const auto v3 = config_of({.gating = 2, .n_groups = 4, .n_groups_used = 2}, automatic);
  CHECK(v3.moe.group_rule == GroupRule::top2_sum);
  const auto v2 = config_of({.n_groups = 4, .n_groups_used = 2}, automatic);
  CHECK(v2.moe.group_rule == GroupRule::max);
  CHECK(v2.notes.at(0).find("best one (from the file)") != std::string::npos);
  const auto forced = config_of({.gating = 2}, ExpertGroups::on);
  CHECK(forced.moe.n_groups == 8);
  CHECK(forced.moe.n_groups_used == 4);
  const auto forced_v2 = config_of({}, ExpertGroups::on);
  CHECK(forced_v2.moe.n_groups_used == 3);
  CHECK(forced_v2.moe.group_rule == GroupRule::max);
}

TEST_CASE("the attention scale follows YaRN's numbers") {
  const TempDir dir;
  const Model model(dir.write("m.gguf", tiny_model().bytes()), ExpertGroups::automatic);
  const double mscale = 1 + 0.1 * std::log(4.0);
  CHECK(model.config().kq_scale ==
        doctest::Approx(mscale * mscale / std::sqrt(kTinyNope + kTinyRope)));
}

TEST_CASE("a model that is not whole is refused by name") {
  const TempDir dir;
  const auto error = [&](const TinyModelOptions& options) {
    const auto path = dir.write("m.gguf", tiny_model(options).bytes());
    return error_of([&] { Model(path, ExpertGroups::automatic); });
  };
  for (const std::string name :
       {"token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_norm.weight",
        "blk.1.attn_q.weight", "blk.2.attn_kv_a_mqa.weight", "blk.1.attn_kv_b.weight",
        "blk.0.ffn_down.weight", "blk.2.ffn_gate_inp.weight", "blk.1.ffn_up_exps.weight",
        "blk.2.ffn_down_shexp.weight"}) {
    CAPTURE(name);
    const std::string missing = error({.leave_out = name});
    CHECK(missing.find("'" + name + "' is missing") != std::string::npos);
    if (name == "token_embd.weight") continue;  // its rows are the size of the vocabulary
    const std::string misshapen = error({.misshape = name});
    CHECK(misshapen.find("'" + name + "': expected shape") != std::string::npos);
  }
  CHECK(error({.selection_bias = true, .leave_out = "blk.2.exp_probs_b.bias"})
            .find("'blk.2.exp_probs_b.bias' is missing") != std::string::npos);
  CHECK(error({.selection_bias = true, .leave_out = "blk.1.exp_probs_b.bias"})
            .find("'blk.2.exp_probs_b.bias': expected none") != std::string::npos);
  CHECK(error({.architecture = "llama"}).find("architecture 'llama' is not supported") !=
        std::string::npos);
  CHECK(error({.n_groups = 3, .n_groups_used = 2}).find("cannot be routed") != std::string::npos);
  CHECK(error({.gating = 3}).find("expected 1 (softmax) or 2 (sigmoid), found 3") !=
        std::string::npos);
}

TEST_CASE("thousands of flipped bits end in text or in an Error, never in a crash") {
  const TempDir dir;
  const std::string good = tiny_model({.n_layers = 2, .selection_bias = true, .gating = 2}).bytes();
  std::mt19937 random(7);
  // Half of the flips in the header, where they do the most harm.
  const size_t header = good.find("output_norm.weight") + 200;
  const int n_flips = kIsSanitized ? 2000 : 10000;
  int n_refused = 0;
  for (int i = 0; i < n_flips; ++i) {
    std::string bytes = good;
    const size_t at = random() % (i % 2 == 0 ? header : bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    const auto path = dir.write("m.gguf", bytes);
    try {
      EngineOptions options;
      options.model = path;
      options.n_ctx = 4;
      const Engine engine(options);
      Sequence sequence = engine.make_sequence();
      engine.generate(sequence, std::vector<TokenId>{0, 70}, {.n_predict = 1},
                      [](std::string_view) {});
    } catch (const Error&) {
      ++n_refused;
    }
  }
  CHECK(n_refused > n_flips / 10);
  CHECK(n_refused < n_flips - n_flips / 10);
}
