// Greedy text does not depend on how its prompt was cut into micro-batches: on the model that ships
// with the project, whose logits are those of language.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "tests/support/accuracy.h"
#include "tests/support/golden.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr size_t kPromptTokens = 80, kNewTokens = 64;

struct Text {
  std::vector<TokenId> tokens;
  std::vector<std::vector<float>> logits;  // what each token was chosen from
};

Text greedy_text(const Model& model, const std::vector<TokenId>& prompt, uint32_t n_ubatch) {
  const ExecutionOptions options{.n_ubatch = n_ubatch, .n_threads = 2, .n_threads_batch = 2};
  Sequence sequence(model, kPromptTokens + kNewTokens, options);
  Text text;
  std::vector<TokenId> next = prompt;
  for (size_t i = 0; i < kNewTokens; ++i) {
    std::vector<float> logits(model.config().n_vocab);
    Sequence::AppendArgs args;
    args.tokens = next;
    args.n_logit_rows = 1;
    args.logits = logits.data();
    REQUIRE(sequence.append(args));
    next = {static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin())};
    text.tokens.push_back(next[0]);
    text.logits.push_back(std::move(logits));
  }
  return text;
}

double rms(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

/// How far logits may be off, as a share of their RMS. At the scalar level a micro-batch changes
/// the order of sums, and now and then by that a rounding of the f16 cache. At the others a batch's
/// activations are rounded more coarsely than a single token's: the bound of the demo's logits in
/// tests/e2e/demo_model_test.cpp.
double tolerance(SimdLevel level) { return level == SimdLevel::scalar ? 1e-3 : 0.015; }

/// Where texts part, each choice must have been open: the two tokens' logits, each of which may be
/// off by the tolerance, were nearer than that allows to both runs.
void check_parting(const Text& a, const Text& b, double tolerance) {
  const auto [at, other] = std::mismatch(a.tokens.begin(), a.tokens.end(), b.tokens.begin());
  if (at == a.tokens.end()) return;
  const auto step = static_cast<size_t>(at - a.tokens.begin());
  CAPTURE(step);
  for (const Text* text : {&a, &b}) {
    const std::vector<float>& logits = text->logits[step];
    CHECK(std::abs(logits[*at] - logits[*other]) <= 2 * tolerance * rms(logits));
  }
}

}  // namespace

TEST_CASE("greedy text is the same whatever the micro-batch of its prompt") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  EngineOptions options;
  options.model = HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf";
  options.pack = options.prepare_decode = simd_level() != SimdLevel::scalar;
  const Engine engine(options);
  const std::string heldout = read_text(HYBRID_TEST_SOURCE_DIR "/models/demo/heldout.txt");
  const std::vector<TokenId> all =
      engine.tokenizer().encode(heldout.substr(0, 20000), {.add_bos = false});
  int n_parted = 0;
  const bool is_scalar = simd_level() == SimdLevel::scalar;  // slow: one prompt
  for (const size_t first :
       is_scalar ? std::vector<size_t>{0} : std::vector<size_t>{0, 1000, 3000}) {
    REQUIRE(all.size() >= first + kPromptTokens);
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<TokenId> prompt(begin, begin + kPromptTokens);
    const Text single = greedy_text(engine.model(), prompt, 1);
    for (const uint32_t n_ubatch : {7u, 64u, 512u}) {
      CAPTURE(first);
      CAPTURE(n_ubatch);
      const Text text = greedy_text(engine.model(), prompt, n_ubatch);
      if (is_scalar) CHECK(text.tokens == single.tokens);
      check_parting(text, single, tolerance(simd_level()));
      n_parted += text.tokens != single.tokens;
    }
  }
  print_accuracy("{}: {} greedy texts part from that of single tokens", name_of(simd_level()),
                 n_parted);
}
