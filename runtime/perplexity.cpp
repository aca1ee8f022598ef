#include "runtime/perplexity.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hybrid {
namespace {

/// log(sum(exp(logits))), in double.
double log_sum_exp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

double kl_divergence(std::span<const float> base, std::span<const float> logits) {
  const double base_norm = log_sum_exp(base), norm = log_sum_exp(logits);
  double kl = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - base_norm;
    kl += std::exp(log_p) * (log_p - (logits[i] - norm));
  }
  return kl;
}

}  // namespace

void MeanEstimate::add(double value) {
  sum += value;
  sum_of_squares += value * value;
  ++n;
}

double MeanEstimate::mean() const { return n > 0 ? sum / static_cast<double>(n) : 0; }

double MeanEstimate::standard_error() const {
  if (n < 2) return 0;
  const double variance = sum_of_squares / static_cast<double>(n) - mean() * mean();
  return std::sqrt(std::max(0.0, variance) / static_cast<double>(n - 1));
}

double PerplexityResult::perplexity() const { return std::exp(nll.mean()); }

double PerplexityResult::perplexity_error() const { return perplexity() * nll.standard_error(); }

bool measure_perplexity(const Engine& engine, std::span<const TokenId> tokens,
                        const PerplexityParams& params, PerplexityResult& result) {
  const uint32_t window = params.window;
  const uint64_t n_vocab = engine.model().config().n_vocab;
  if (tokens.size() < window) {
    fail("the text has {} tokens, a window needs {}; choose a longer text or a smaller --ctx",
         tokens.size(), window);
  }
  const bool wants_bos = engine.tokenizer().wants_bos() && engine.tokenizer().bos() >= 0;
  Sequence sequence(engine.model(), window, engine.options().execution);
  std::vector<float> logits(window * n_vocab), base(params.base ? logits.size() : 0);
  for (uint64_t w = 0; w < tokens.size() / window; ++w) {
    std::vector<TokenId> ids(tokens.begin() + static_cast<std::ptrdiff_t>(w * window),
                             tokens.begin() + static_cast<std::ptrdiff_t>((w + 1) * window));
    if (wants_bos) ids[0] = engine.tokenizer().bos();
    sequence.truncate(0);
    Sequence::AppendArgs args;
    args.tokens = ids;
    args.n_logit_rows = window;
    args.logits = logits.data();
    args.stop = params.stop;
    if (!sequence.append(args)) return false;
    if (params.on_logits) params.on_logits(logits);
    if (params.base) params.base(w, base);
    for (uint64_t i = window / 2; i + 1 < window; ++i) {
      const std::span row(logits.data() + i * n_vocab, n_vocab);
      result.nll.add(log_sum_exp(row) - row[ids[i + 1]]);
      if (params.base) {
        result.kl.add(kl_divergence(std::span(base.data() + i * n_vocab, n_vocab), row));
      }
    }
    ++result.n_windows;
    if (params.on_window) params.on_window(result);
  }
  return true;
}

}  // namespace hybrid
