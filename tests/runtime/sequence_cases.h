#pragma once
// What tests of sequences share: a model, ways to run tokens, the caches there are.

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/sequence.h"
#include "tests/support/accuracy.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace hybrid::test {

inline constexpr MlaMode kMlaModes[] = {MlaMode::standard, MlaMode::absorbed_transposed,
                                        MlaMode::absorbed, MlaMode::unabsorbed_prefill};

/// -mla 0, 1 with and without flash, 2 and 3, with rows of this type.
inline std::vector<AttentionOptions> all_caches(DType type) {
  std::vector<AttentionOptions> all;
  for (const MlaMode mla : kMlaModes)
    all.push_back({.mla = mla, .key_type = type, .value_type = type});
  all.push_back(
      {.mla = MlaMode::absorbed_transposed, .flash = false, .key_type = type, .value_type = type});
  return all;
}

inline std::vector<TokenId> tokens_from(uint32_t first, uint32_t n) {
  std::vector<TokenId> tokens(n);
  for (uint32_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>(((first + i) * 37 + 5) % 250);
  return tokens;
}

/// Logits of the last token.
inline std::vector<float> append(Sequence& sequence, const std::vector<TokenId>& tokens) {
  std::vector<float> logits(sequence.model().config().n_vocab);
  Sequence::AppendArgs args;
  args.tokens = tokens;
  args.n_logit_rows = 1;
  args.logits = logits.data();
  REQUIRE(sequence.append(args));
  return logits;
}

struct TinyFile {
  TempDir dir;
  std::filesystem::path path;

  explicit TinyFile(const TinyModelOptions& options = {}, uint32_t seed = 1)
      : path(dir.write("m.gguf", tiny_model(options, seed).bytes())) {}
};

}  // namespace hybrid::test
