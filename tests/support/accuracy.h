#pragma once
// Activations like those of real models, and the distance of results from exact ones.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace hybrid::test {

enum class Spread {
  gaussian,  // every column has deviation 1
  outliers,  // columns spread lognormally, and a few are 20 to 50 times larger
};

/// [n_tokens][n_cols], each row's RMS 1 as a norm leaves it. The same columns are large in every
/// token.
inline std::vector<float> activations(Spread spread, uint64_t n_tokens, uint64_t n_cols,
                                      uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> columns(n_cols, 1.0);
  if (spread == Spread::outliers) {
    for (double& c : columns) c = std::exp(0.7 * normal(random));
    for (uint64_t i = 0; i < n_cols; i += 256) {
      columns[i + random() % std::min<uint64_t>(256, n_cols - i)] *=
          std::uniform_real_distribution<double>(20, 50)(random);
    }
  }
  std::vector<float> x(n_tokens * n_cols);
  for (uint64_t t = 0; t < n_tokens; ++t) {
    double sum = 0;
    std::vector<double> row(n_cols);
    for (uint64_t c = 0; c < n_cols; ++c) sum += std::pow(row[c] = normal(random) * columns[c], 2);
    const double scale = std::sqrt(static_cast<double>(n_cols) / sum);
    for (uint64_t c = 0; c < n_cols; ++c) x[t * n_cols + c] = static_cast<float>(row[c] * scale);
  }
  return x;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// The RMS of differences over that of exact values, taken over all that was added.
class RelativeRms {
 public:
  void add(double found, double exact) {
    error_ += (found - exact) * (found - exact);
    norm_ += exact * exact;
  }
  /// Infinite where something was no number.
  double value() const {
    const double rms = std::sqrt(error_ / norm_);
    return std::isnan(rms) ? INFINITY : rms;
  }

 private:
  double error_ = 0, norm_ = 1e-300;
};

/// The RMS of the differences over that of what is expected.
template <class Expected>
double relative_error(const std::vector<float>& found, const std::vector<Expected>& expected) {
  if (found.size() != expected.size()) return INFINITY;
  RelativeRms rms;
  for (size_t i = 0; i < expected.size(); ++i) rms.add(found[i], expected[i]);
  return rms.value();
}

/// Mean over the tokens of the Kullback-Leibler divergence of what the logits say from what they
/// should say. Both [n_tokens][n_vocab].
inline double mean_divergence(const std::vector<float>& found, const std::vector<float>& expected,
                              uint64_t n_tokens) {
  const uint64_t n_vocab = found.size() / n_tokens;
  const auto log_sum = [&](const float* row) {
    const double most = *std::max_element(row, row + n_vocab);
    double sum = 0;
    for (uint64_t i = 0; i < n_vocab; ++i) sum += std::exp(row[i] - most);
    return most + std::log(sum);
  };
  double total = 0;
  for (uint64_t at = 0; at < found.size(); at += n_vocab) {
    const double p_sum = log_sum(&expected[at]), q_sum = log_sum(&found[at]);
    for (uint64_t i = at; i < at + n_vocab; ++i) {
      const double log_p = expected[i] - p_sum;
      total += std::exp(log_p) * (log_p - (found[i] - q_sum));
    }
  }
  return total / static_cast<double>(n_tokens);
}

/// Prints a measured figure where the environment has HYBRID_PRINT_ACCURACY.
template <class... Args>
void print_accuracy(fmt::format_string<Args...> format, Args&&... args) {
  if (std::getenv("HYBRID_PRINT_ACCURACY") == nullptr) return;
  fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hybrid::test
