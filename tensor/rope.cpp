#include "tensor/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "tensor/row_ops.h"

namespace hybrid {
namespace {

double correction_dim(const RopeConfig& c, double beta) {
  return c.n_dims * std::log(c.n_ctx_original / (beta * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(c.freq_base)));
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& c) {
  HYBRID_CHECK(c.n_dims % 2 == 0);
  const double low = std::max(0.0, std::floor(correction_dim(c, c.beta_fast)));
  const double high = std::min(c.n_dims - 1.0, std::ceil(correction_dim(c, c.beta_slow)));
  std::vector<double> frequencies(c.n_dims / 2);
  for (uint32_t i = 0; i < frequencies.size(); ++i) {
    const double extrapolated = std::pow(static_cast<double>(c.freq_base), -2.0 * i / c.n_dims);
    const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
    const double mix = c.yarn ? 1 - ramp : 0;
    frequencies[i] = extrapolated * (c.freq_scale * (1 - mix) + mix);
  }
  return frequencies;
}

Rope::Rope(const RopeConfig& config) : frequencies_(rope_frequencies(config)) {}

void Rope::fill_table(uint64_t position, float* table) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = static_cast<double>(position) * frequencies_[i];
    table[2 * i] = static_cast<float>(std::cos(angle));
    table[2 * i + 1] = static_cast<float>(std::sin(angle));
  }
}

void rotate_pairs(float* x, const float* table, uint32_t n) { row_ops().rotate_pairs(x, table, n); }

}  // namespace hybrid
