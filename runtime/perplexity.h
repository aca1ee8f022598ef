#pragma once
// How well a model predicts a text, by the field's usual windows.

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "runtime/engine.h"

namespace hybrid {

/// Running mean and standard error of a quantity.
struct MeanEstimate {
  double sum = 0, sum_of_squares = 0;
  uint64_t n = 0;

  void add(double value);
  double mean() const;
  double standard_error() const;  // of the mean; 0 for fewer than two values
};

struct PerplexityResult {
  uint64_t n_windows = 0;
  MeanEstimate nll;  // negative log-likelihood per scored token
  MeanEstimate kl;   // KL(base || this model) per scored token, where a base was given

  double perplexity() const;
  double perplexity_error() const;  // standard error, first order
};

struct PerplexityParams {
  uint32_t window = 512;  // tokens
  /// Fills base logits, [n][n_vocab], for tokens first .. first + n of the text, for the KL
  /// divergence; may be empty.
  std::function<void(uint64_t first, std::span<float> logits)> base;
  /// Sees the logits of all tokens in order, some at a time, [n][n_vocab]; may be empty.
  std::function<void(std::span<const float> logits)> on_logits;
  std::function<void(const PerplexityResult&)> on_window;  // progress; may be empty
  const std::atomic<bool>* stop = nullptr;
};

/// The text is cut into windows of `window` tokens, the rest is dropped. In each, BOS replaces the
/// first token where the model wants BOS, and the tokens of the second half but the first are
/// predicted from all before them: positions window/2 to window-2 give predictions for the next.
/// (llama-perplexity's rule, so that figures compare.) False where stopped. Logits are held for one
/// batch (-b) at a time. `sequence` has room for a window.
bool measure_perplexity(const Engine& engine, Sequence& sequence, std::span<const TokenId> tokens,
                        const PerplexityParams& params, PerplexityResult& result);

}  // namespace hybrid
