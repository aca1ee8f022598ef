#pragma once
// From logits to the next token.

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "runtime/tokenizer.h"

namespace hybrid {

struct SamplingParams {
  uint64_t seed = 0;
  float temperature = 0.8f;     // 0: greedy
  int32_t top_k = 40;           // 0 or less: all
  float top_p = 0.95f;          // 1: all
  float min_p = 0.05f;          // 0: all
  float repeat_penalty = 1.0f;  // 1: none; looks at the last 64 tokens
};

/// Steps, in this order: repeat penalty, then greedy if temperature is 0, else top-k, softmax,
/// top-p, min-p (relative to the best), temperature, and a draw. The same seed and the same logits
/// give the same tokens on every platform (the draw uses the generator's bits directly).
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params);

  /// logits: [n_vocab]. Remembers the token for the penalty. NaN counts as impossible.
  TokenId sample(std::span<const float> logits);

  /// Tells the sampler of a token that was not sampled (the prompt).
  void accept(TokenId token);

 private:
  struct Candidate {
    TokenId id;
    float logit;
    double p;
  };
  void penalize(std::vector<Candidate>& candidates) const;
  void keep_top_k(std::vector<Candidate>& candidates) const;
  void keep_probable(std::vector<Candidate>& candidates) const;
  TokenId draw(std::vector<Candidate>& candidates);

  SamplingParams params_;
  std::mt19937_64 random_;
  std::vector<TokenId> recent_;
};

}  // namespace hybrid
