#pragma once
// The tests of `bench`: how fast a model reads prompts and writes tokens.

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/sequence.h"

namespace hybrid {

/// Prefill of n_prompt tokens, or decode of n_gen single tokens behind n_depth others. The unused
/// ones are 0.
struct BenchTest {
  uint32_t n_prompt = 0;
  uint32_t n_gen = 0;
  uint32_t n_depth = 0;

  std::string name() const;  // "pp512", "tg128", "tg64@pp4096"
  uint32_t n_timed() const { return n_prompt + n_gen; }
  uint32_t n_ctx() const { return n_depth + n_timed(); }
};

struct BenchResult {
  std::vector<double> tps_samples;  // tokens per second, one for each repetition
  double bytes_per_token = 0;       // by step_bytes.h, the mean over the test's tokens

  double tps_mean() const;
  double tps_stddev() const;  // of the samples (n - 1); 0 for a single one
  double gb_per_s() const { return bytes_per_token * tps_mean() * 1e-9; }
};

struct BenchParams {
  uint32_t n_repetitions = 5;
  const std::atomic<bool>* stop = nullptr;      // looked at between layers
  std::function<void(double tps)> on_run = {};  // after each timed repetition
};

/// Runs the test once untimed, then the repetitions. Tokens are random, from a fixed seed, and the
/// same in each repetition, so that samples differ by what the machine does and not by the experts
/// chosen. Logits are computed as generation needs them: for the prompt's last token, for every
/// decoded one. Nothing where `stop` ended it. Throws as Sequence does.
std::optional<BenchResult> run_bench_test(const Model& model, const ExecutionOptions& execution,
                                          const BenchTest& test, const BenchParams& params);

/// One timed run, in a sequence of its own, for a search that compares many settings: before it,
/// n_warm tokens of the same kind that are not timed. Tokens per second; nothing where `stop` ended
/// it.
std::optional<double> sample_bench_test(const Model& model, const ExecutionOptions& execution,
                                        const BenchTest& test, uint32_t n_warm,
                                        const std::atomic<bool>* stop);

}  // namespace hybrid
