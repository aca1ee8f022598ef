#include "runtime/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "runtime/step_bytes.h"

namespace hybrid {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<TokenId> random_tokens(uint32_t n, uint32_t n_vocab) {
  std::mt19937 random(42);
  std::vector<TokenId> tokens(n);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % n_vocab);
  return tokens;
}

/// A sequence that runs one test again and again.
class Runner {
 public:
  Runner(const Model& model, const ExecutionOptions& execution, const BenchTest& test,
         const std::atomic<bool>* stop)
      : sequence_(model, test.n_ctx(), execution),
        n_batch_(execution.n_batch),
        test_(test),
        stop_(stop),
        tokens_(random_tokens(test.n_ctx(), model.config().n_vocab)),
        logits_(model.config().n_vocab) {}

  /// False where `stop` ended it; so below.
  bool fill_depth() { return prefill(std::span(tokens_).first(test_.n_depth)); }

  /// The first tokens of the timed part.
  bool warm_up(uint32_t n_tokens) {
    double seconds = 0;
    return run(seconds, n_tokens);
  }

  /// The timed part, behind what fill_depth() left, or its first n_tokens.
  bool run(double& seconds, uint32_t n_tokens) {
    sequence_.truncate(test_.n_depth);
    const std::span timed = std::span(tokens_).subspan(test_.n_depth, n_tokens);
    const auto start = Clock::now();
    if (!(test_.n_gen > 0 ? decode(timed) : prefill(timed))) return false;
    seconds = std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
    return true;
  }
  bool run(double& seconds) { return run(seconds, test_.n_timed()); }

 private:
  bool prefill(std::span<const TokenId> tokens) {
    for (size_t done = 0; done < tokens.size(); done += n_batch_) {
      const auto batch = tokens.subspan(done, std::min<size_t>(n_batch_, tokens.size() - done));
      if (!append(batch, done + batch.size() == tokens.size())) return false;
    }
    return true;
  }

  bool decode(std::span<const TokenId> tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!append(tokens.subspan(i, 1), true)) return false;
    }
    return true;
  }

  bool append(std::span<const TokenId> tokens, bool with_logits) {
    Sequence::AppendArgs args;
    args.tokens = tokens;
    args.n_logit_rows = with_logits ? 1 : 0;
    args.logits = logits_.data();
    args.stop = stop_;
    return sequence_.append(args);
  }

  Sequence sequence_;
  uint32_t n_batch_;
  BenchTest test_;
  const std::atomic<bool>* stop_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;
};

double bytes_per_token(const Model& model, const ExecutionOptions& execution,
                       const BenchTest& test) {
  double n = 0;
  for (uint32_t i = 1; i <= test.n_gen; ++i) {
    n += static_cast<double>(decode_bytes(model, execution.attention, test.n_depth + i));
  }
  if (test.n_prompt > 0) {
    n += static_cast<double>(prefill_bytes(model, execution.attention, test.n_prompt,
                                           execution.n_batch, execution.n_ubatch));
  }
  return n / test.n_timed();
}

}  // namespace

std::string BenchTest::name() const {
  if (n_prompt > 0) return fmt::format("pp{}", n_prompt);
  return n_depth > 0 ? fmt::format("tg{}@pp{}", n_gen, n_depth) : fmt::format("tg{}", n_gen);
}

double BenchResult::tps_mean() const {
  return std::accumulate(tps_samples.begin(), tps_samples.end(), 0.0) /
         static_cast<double>(tps_samples.size());
}

double BenchResult::tps_stddev() const {
  if (tps_samples.size() < 2) return 0;
  const double mean = tps_mean();
  double sum = 0;
  for (const double tps : tps_samples) sum += (tps - mean) * (tps - mean);
  return std::sqrt(sum / static_cast<double>(tps_samples.size() - 1));
}

std::optional<BenchResult> run_bench_test(const Model& model, const ExecutionOptions& execution,
                                          const BenchTest& test, const BenchParams& params) {
  HYBRID_CHECK((test.n_prompt > 0) != (test.n_gen > 0));
  HYBRID_CHECK(test.n_prompt == 0 || test.n_depth == 0);
  Runner runner(model, execution, test, params.stop);
  double seconds = 0;
  // The run that is not timed takes the memory and wakes the threads; it is a whole one, because
  // it also touches every page of a mapped file that the timed ones will read.
  if (!runner.fill_depth() || !runner.run(seconds)) return std::nullopt;
  BenchResult result;
  result.bytes_per_token = bytes_per_token(model, execution, test);
  for (uint32_t i = 0; i < params.n_repetitions; ++i) {
    if (!runner.run(seconds)) return std::nullopt;
    result.tps_samples.push_back(test.n_timed() / seconds);
    if (params.on_run) params.on_run(result.tps_samples.back());
  }
  return result;
}

std::optional<double> sample_bench_test(const Model& model, const ExecutionOptions& execution,
                                        const BenchTest& test, uint32_t n_warm,
                                        const std::atomic<bool>* stop) {
  HYBRID_CHECK((test.n_prompt > 0) != (test.n_gen > 0));
  Runner runner(model, execution, test, stop);
  double seconds = 0;
  if (!runner.fill_depth() || !runner.warm_up(std::min(n_warm, test.n_timed())))
    return std::nullopt;
  if (!runner.run(seconds)) return std::nullopt;
  return test.n_timed() / seconds;
}

}  // namespace hybrid
