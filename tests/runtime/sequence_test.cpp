// Sequences beside each other: prefixes that are copied or cut back, micro-batches that several
// share.

#include "runtime/sequence.h"

#include <doctest/doctest.h>

#include "tests/runtime/sequence_cases.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// Rows in float: what differs is the computation, not the rounding of the cache.
ExecutionOptions in_mode(const AttentionOptions& attention) {
  return {.n_ubatch = 64, .attention = attention};
}

std::vector<float> logits_alone(const Model& model, const ExecutionOptions& options,
                                const std::vector<TokenId>& before,
                                const std::vector<TokenId>& tokens) {
  Sequence sequence(model, 64, options);
  if (!before.empty()) append(sequence, before);
  return append(sequence, tokens);
}

}  // namespace

TEST_CASE("a copied prefix is as good as a computed one, bit for bit") {
  const TinyFile file;
  const Model model(file.path, ExpertGroups::automatic);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    for (const AttentionOptions& attention : all_caches(type)) {
      CAPTURE(static_cast<int>(attention.mla));
      Sequence from(model, 64, in_mode(attention)), to(model, 50, in_mode(attention));
      append(from, tokens_from(0, 40));
      append(to, tokens_from(9, 11));  // forgotten
      to.copy_prefix(from, 30);
      CHECK(to.tokens() == tokens_from(0, 30));
      from.truncate(30);
      CHECK(append(to, tokens_from(70, 5)) == append(from, tokens_from(70, 5)));
      to.copy_prefix(from, 0);
      CHECK(to.tokens().empty());
    }
  }
}

TEST_CASE("what is cut back leaves no trace") {
  const TinyFile file;
  const Model model(file.path, ExpertGroups::automatic);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    for (const AttentionOptions& attention : all_caches(type)) {
      CAPTURE(static_cast<int>(attention.mla));
      Sequence fresh(model, 64, in_mode(attention)), cut(model, 64, in_mode(attention));
      append(fresh, tokens_from(0, 20));
      append(cut, tokens_from(0, 20));
      append(cut, tokens_from(100, 30));
      cut.truncate(20);
      CHECK(cut.n_free() == 44);
      CHECK(append(cut, tokens_from(50, 7)) == append(fresh, tokens_from(50, 7)));
      CHECK(cut.tokens() == fresh.tokens());
    }
  }
}

TEST_CASE("sequences in one micro-batch get the logits they get alone") {
  LevelScope scope;
  REQUIRE(scope.set(SimdLevel::scalar));
  const TinyFile file({.q_lora = 24});
  const Model model(file.path, ExpertGroups::automatic);
  struct Case {
    uint32_t n_before, n_tokens;
  };
  const Case cases[] = {{0, 1}, {17, 1}, {3, 20}, {0, 9}, {40, 2}};
  for (const AttentionOptions& attention : all_caches(DType::f32)) {
    CAPTURE(static_cast<int>(attention.mla));
    CAPTURE(attention.flash);
    std::vector<std::unique_ptr<Sequence>> sequences;
    std::vector<std::vector<TokenId>> before, tokens;
    std::vector<std::vector<float>> logits;
    for (uint32_t i = 0; i < std::size(cases); ++i) {
      sequences.push_back(std::make_unique<Sequence>(model, 64, in_mode(attention)));
      before.push_back(tokens_from(100 * i, cases[i].n_before));
      tokens.push_back(tokens_from(1000 + 50 * i, cases[i].n_tokens));
      logits.emplace_back(model.config().n_vocab);
      if (!before[i].empty()) append(*sequences[i], before[i]);
    }
    std::vector<Sequence::Part> parts;
    for (size_t i = 0; i < std::size(cases); ++i) {
      parts.push_back({sequences[i].get(), tokens[i], i == 3 ? nullptr : logits[i].data()});
    }
    REQUIRE(Sequence::append_together(parts));
    for (size_t i = 0; i < std::size(cases); ++i) {
      CAPTURE(i);
      CHECK(sequences[i]->tokens().size() == cases[i].n_before + cases[i].n_tokens);
      // They go on alone as if nothing had been.
      const auto more = tokens_from(7, 1);
      const auto next = append(*sequences[i], more);
      auto all = before[i];
      all.insert(all.end(), tokens[i].begin(), tokens[i].end());
      CHECK(relative_error(next, logits_alone(model, in_mode(attention), all, more)) < 1e-5);
      if (i == 3) continue;
      CHECK(relative_error(logits[i],
                           logits_alone(model, in_mode(attention), before[i], tokens[i])) < 1e-5);
    }
  }
}

TEST_CASE("a sequence does not see the tokens of another") {
  const TinyFile file;
  const Model model(file.path, ExpertGroups::automatic);
  for (const AttentionOptions& attention : all_caches(DType::f16)) {
    CAPTURE(static_cast<int>(attention.mla));
    const auto logits_beside = [&](uint32_t others) {
      Sequence one(model, 64, in_mode(attention)), other(model, 40, in_mode(attention));
      append(one, tokens_from(0, 10));
      append(other, tokens_from(others, 10));
      const auto mine = tokens_from(20, 6), its = tokens_from(others + 3, 20);
      std::vector<float> logits(model.config().n_vocab);
      const Sequence::Part parts[] = {{&one, mine, logits.data()}, {&other, its, nullptr}};
      REQUIRE(Sequence::append_together(parts));
      return logits;
    };
    CHECK(logits_beside(300) == logits_beside(500));
  }
}

TEST_CASE("a step of several sequences that was stopped leaves them as they were") {
  const TinyFile file;
  const Model model(file.path, ExpertGroups::automatic);
  Sequence one(model, 64, {}), other(model, 64, {});
  append(one, tokens_from(0, 4));
  const auto tokens = tokens_from(9, 3);
  const Sequence::Part parts[] = {{&one, tokens, nullptr}, {&other, tokens, nullptr}};
  const std::atomic<bool> stop{true};
  CHECK_FALSE(Sequence::append_together(parts, &stop));
  CHECK(one.tokens() == tokens_from(0, 4));
  CHECK(other.tokens().empty());
}
