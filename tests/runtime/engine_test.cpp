#include "runtime/engine.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "base/utf8.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct Fixture {
  TempDir dir;
  Engine engine;

  explicit Fixture(uint32_t n_ctx = 0) : engine(options(n_ctx)) {}

  EngineOptions options(uint32_t n_ctx) {
    EngineOptions o;
    o.model = dir.write("tiny.gguf", tiny_model({.q_lora = 24, .gating = 2}).bytes());
    o.n_ctx = n_ctx;
    return o;
  }

  GenerateResult generate(Sequence& sequence, const std::vector<TokenId>& prompt,
                          const GenerateParams& params, std::string& text) {
    return engine.generate(sequence, prompt, params, [&](std::string_view s) { text += s; });
  }
};

GenerateParams greedy(int64_t n) {
  GenerateParams params;
  params.sampling.temperature = 0;
  params.n_predict = n;
  return params;
}

}  // namespace

TEST_CASE("a full context ends generation with that reason") {
  Fixture f(10);
  Sequence sequence = f.engine.make_sequence();
  std::string text;
  const auto result = f.generate(sequence, {0, 70, 71, 72}, greedy(-1), text);
  // Positions 4 to 9 take six new tokens; a seventh is sampled from the last logits.
  CHECK(result.finish == FinishReason::context_full);
  CHECK(result.n_generated == 7);
  CHECK(sequence.tokens().size() == 10);
  CHECK(find_invalid_utf8(text) == std::string::npos);
}

TEST_CASE("a prompt that fills the context still gives one token") {
  Fixture f(4);
  Sequence sequence = f.engine.make_sequence();
  std::string text;
  const auto result = f.generate(sequence, {0, 70, 71, 72}, greedy(-1), text);
  CHECK(result.finish == FinishReason::context_full);
  CHECK(result.n_generated == 1);
}

TEST_CASE("-n counts tokens, 0 gives none") {
  Fixture f;
  Sequence sequence = f.engine.make_sequence();
  std::string text;
  CHECK(f.generate(sequence, {0, 70}, greedy(5), text).n_generated == 5);
  text.clear();
  const auto none = f.generate(sequence, {0, 70}, greedy(0), text);
  CHECK(none.finish == FinishReason::token_limit);
  CHECK(text.empty());
}

TEST_CASE("a reused prefix gives the same text as a fresh sequence") {
  Fixture f;
  std::string first, fresh, reused;
  Sequence sequence = f.engine.make_sequence();
  f.generate(sequence, {0, 70, 71, 72, 73}, greedy(8), first);
  const std::vector<TokenId> next{0, 70, 71, 99, 98, 97};
  const auto result = f.generate(sequence, next, greedy(8), reused);
  CHECK(result.n_reused == 3);
  CHECK(result.n_prompt == 3);
  Sequence other = f.engine.make_sequence();
  f.generate(other, next, greedy(8), fresh);
  CHECK(reused == fresh);
}

TEST_CASE("the stop flag ends a run at once") {
  Fixture f;
  Sequence sequence = f.engine.make_sequence();
  const std::atomic<bool> stop{true};
  GenerateParams params = greedy(-1);
  params.stop = &stop;
  std::string text;
  CHECK(f.generate(sequence, {0, 70}, params, text).finish == FinishReason::interrupted);
  CHECK(sequence.tokens().empty());
}

TEST_CASE("prompts that cannot be run are refused") {
  Fixture f(4);
  Sequence sequence = f.engine.make_sequence();
  std::string text;
  CHECK(error_of([&] { f.generate(sequence, {}, greedy(1), text); }).find("prompt is empty") !=
        std::string::npos);
  CHECK(error_of([&] {
          f.generate(sequence, {0, 1, 2, 3, 4}, greedy(1), text);
        }) == "the prompt has 5 tokens, the context 4; raise -c or shorten the prompt");
  CHECK(error_of([&] {
          f.generate(sequence, {0, 258}, greedy(1), text);
        }) == "token id 258 is out of range: the vocabulary has ids 0 to 257");
}

TEST_CASE("rates count passes, not tokens") {
  Fixture f;
  Sequence sequence = f.engine.make_sequence();
  std::string text;
  const auto one = f.generate(sequence, {0, 70}, greedy(1), text);
  CHECK(one.n_generated == 1);
  CHECK(one.n_decode_steps == 0);
  CHECK(f.generate(sequence, {0, 70}, greedy(4), text).n_decode_steps == 3);
}

TEST_CASE("a model whose output is no number is told, not sampled") {
  const TempDir dir;
  std::string bytes = tiny_model().bytes();
  // The last tensor but one is the output norm: its data ends just before the output's.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const size_t output_bytes = 258 * kTinyEmbd * sizeof(float);
  std::memcpy(bytes.data() + bytes.size() - output_bytes - sizeof(float), &nan, sizeof(float));
  EngineOptions options;
  options.model = dir.write("nan.gguf", bytes);
  const Engine engine(options);
  Sequence sequence = engine.make_sequence();
  const std::string error = error_of([&] {
    engine.generate(sequence, std::vector<TokenId>{0, 70, 71}, {.n_predict = 3},
                    [](std::string_view) {});
  });
  CHECK(error.find("output at position 2 is not a finite number") != std::string::npos);
}

TEST_CASE("more memory than there is is refused with the figures") {
  Fixture f(kTinyContext);
  ExecutionOptions execution;
  execution.n_batch = execution.n_ubatch = 1u << 30;
  const std::string error =
      error_of([&] { Sequence sequence(f.engine.model(), 1u << 30, execution); });
  CHECK(error.find("not enough memory: the cache of 1073741824 tokens needs") != std::string::npos);
  CHECK(error.find("lower -c or -ub") != std::string::npos);
}

TEST_CASE("a vocabulary that does not fit the embedding is refused") {
  const TempDir dir;
  EngineOptions options;
  GgufBuilder gguf = tiny_model({.misshape = "token_embd.weight"});
  options.model = dir.write("m.gguf", gguf.bytes());
  CHECK(error_of([&] { Engine engine(options); }).find("tensor 'output.weight'") !=
        std::string::npos);
}
