#pragma once
// The golden models, as the README beside them describes them.

#include <string>
#include <vector>

#include "tests/support/golden.h"

namespace hybrid::test {

struct GoldenModel {
  std::string name;  // of the reference files
  std::string file;  // of the GGUF
  uint32_t n_used;   // experts per token
};

inline constexpr uint32_t kGoldenTokens = 96;

/// One of each shape and layout: attn_kv_b, the split pair, three parts.
inline const std::vector<GoldenModel>& golden_models() {
  static const std::vector<GoldenModel> models{
      {"lite-f16", "lite-f16", 3},         {"lite-q8_0", "lite-q8_0", 3},
      {"lite-q4_k", "lite-q4_k", 3},       {"lite-q2_k", "lite-q2_k", 3},
      {"lite-iq4_xs", "lite-iq4_xs", 3},   {"r1-q4_k", "r1-q4_k", 4},
      {"v2-q4_k", "v2-q4_k", 4},           {"r1-q4_k-split-kv", "r1-q4_k-split-kv", 4},
      {"heads16-q4_k", "heads16-q4_k", 2}, {"lite-q3_k", "lite-q3_k-00001-of-00003", 3},
  };
  return models;
}

/// The ids that all logits were computed for, as --tokens takes them.
inline std::string golden_token_text() {
  std::string text = read_text(golden("models/tokens.txt"));
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

}  // namespace hybrid::test
