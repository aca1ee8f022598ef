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
    if (std::exp(log_p) == 0) continue;
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

namespace {

/// One window: its logits batch by batch, scored where they count.
class Window {
 public:
  Window(const Engine& engine, Sequence& sequence, const PerplexityParams& params,
         PerplexityResult& result)
      : sequence_(sequence),
        params_(params),
        result_(result),
        n_vocab_(engine.model().config().n_vocab),
        n_batch_(std::min(engine.options().execution.n_batch, params.window)) {}

  bool measure(std::span<const TokenId> ids, uint64_t first_token) {
    sequence_.truncate(0);
    for (uint32_t done = 0; done < params_.window; done += n_batch_) {
      const uint32_t n = std::min(n_batch_, params_.window - done);
      const uint32_t skipped = params_.on_logits ? 0 : unscored_rows(done, n);
      logits_.resize((n - skipped) * n_vocab_);
      Sequence::AppendArgs args;
      args.tokens = ids.subspan(done, n);
      args.n_logit_rows = n - skipped;
      args.logits = logits_.data();
      args.stop = params_.stop;
      if (!sequence_.append(args)) return false;
      if (params_.on_logits) params_.on_logits(logits_);
      score(ids, done + skipped, first_token);
    }
    ++result_.n_windows;
    return true;
  }

 private:
  /// Of the n rows from `first` on, those before the window's second half.
  uint32_t unscored_rows(uint32_t first, uint32_t n) const {
    const uint32_t half = params_.window / 2;
    return first >= half ? 0 : std::min(n, half - first);
  }

  /// logits_ holds rows from `first` on.
  void score(std::span<const TokenId> ids, uint32_t first, uint64_t first_token) {
    const uint64_t n_rows = logits_.size() / n_vocab_;
    if (params_.base) {
      base_.resize(logits_.size());
      params_.base(first_token + first, base_);
    }
    for (uint64_t r = 0; r < n_rows; ++r) {
      const uint64_t i = first + r;
      if (i < params_.window / 2 || i + 1 >= params_.window) continue;
      const std::span row(logits_.data() + r * n_vocab_, n_vocab_);
      result_.nll.add(log_sum_exp(row) - row[ids[i + 1]]);
      if (params_.base) {
        result_.kl.add(kl_divergence(std::span(base_.data() + r * n_vocab_, n_vocab_), row));
      }
    }
  }

  Sequence& sequence_;
  const PerplexityParams& params_;
  PerplexityResult& result_;
  uint64_t n_vocab_;
  uint32_t n_batch_;
  std::vector<float> logits_, base_;
};

}  // namespace

bool measure_perplexity(const Engine& engine, Sequence& sequence, std::span<const TokenId> tokens,
                        const PerplexityParams& params, PerplexityResult& result) {
  const uint32_t n = params.window;
  HYBRID_CHECK(n <= sequence.n_ctx() && tokens.size() >= n);
  const bool wants_bos = engine.tokenizer().wants_bos() && engine.tokenizer().bos() >= 0;
  Window window(engine, sequence, params, result);
  for (uint64_t first = 0; first + n <= tokens.size(); first += n) {
    const auto part = tokens.subspan(first, n);
    std::vector<TokenId> ids(part.begin(), part.end());
    if (wants_bos) ids[0] = engine.tokenizer().bos();
    if (!window.measure(ids, first)) return false;
    if (params.on_window) params.on_window(result);
  }
  return true;
}

}  // namespace hybrid
