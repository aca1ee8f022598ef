#pragma once
// Routed experts with random weights, and what they compute, in double.

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "experts/moe_ffn.h"
#include "tests/support/accuracy.h"
#include "tests/support/weight_stack.h"

namespace hybrid::test {

struct FfnTypes {
  DType gate, up, down;
};

/// The matrices of n_experts nets, as every kind of ExpertWeights that holds them.
class TestExperts {
 public:
  TestExperts(const FfnTypes& types, uint64_t n_embd, uint64_t n_ff, uint64_t n_experts)
      : n_embd_(n_embd),
        n_ff_(n_ff),
        n_experts_(n_experts),
        gate_(types.gate, n_embd, n_ff, n_experts, weights(types.gate, 1)),
        up_(types.up, n_embd, n_ff, n_experts, weights(types.up, 2)),
        down_(types.down, n_ff, n_embd, n_experts, weights(types.down, 3)) {
    if (types.gate == types.up) {
      merged_ = std::make_unique<WeightStack>(types.gate, n_embd, 2 * n_ff, n_experts, merge());
    }
  }

  uint64_t n_embd() const { return n_embd_; }
  uint64_t n_ff() const { return n_ff_; }
  uint64_t n_experts() const { return n_experts_; }
  FfnTypes types() const {
    return {gate_.unpacked().type(), up_.unpacked().type(), down_.unpacked().type()};
  }

  ExpertWeights packed() const { return {gate_.packed(), up_.packed(), {}, down_.packed()}; }
  /// All of them: packed and not, separate and, where the types agree, merged.
  std::vector<ExpertWeights> layouts() const {
    std::vector<ExpertWeights> all{packed(),
                                   {gate_.unpacked(), up_.unpacked(), {}, down_.unpacked()}};
    if (merged_ == nullptr) return all;
    all.push_back({{}, {}, merged_->unpacked(), down_.unpacked()});
    if (n_ff_ % kPanelRows == 0) all.push_back({{}, {}, merged_->packed(), down_.packed()});
    return all;
  }

  /// down (silu(gate x) * up x) of expert e.
  std::vector<double> output(uint64_t e, const float* x) const {
    std::vector<double> hidden = product(gate_, e, x);
    const std::vector<double> up = product(up_, e, x);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i] / (1 + std::exp(-hidden[i]));
    return product(down_, e, hidden.data());
  }

  /// What to divide inputs of deviation 1 by, for gates of deviation 1: there silu is no line.
  double input_scale() const {
    double sum = 0;
    for (uint64_t i = 0; i < n_embd_ * n_ff_; ++i) sum += std::pow(gate_.row(0, 0)[i], 2);
    return std::sqrt(sum / static_cast<double>(n_ff_));
  }

 private:
  std::vector<std::byte> weights(DType type, uint32_t seed) const {
    return balanced_weights(type, n_embd_ * n_ff_ * n_experts_, seed);
  }

  std::vector<std::byte> merge() const {
    std::vector<std::byte> all;
    for (uint64_t e = 0; e < n_experts_; ++e) {
      for (const WeightStack* w : {&gate_, &up_}) {
        const auto bytes = w->unpacked().slice(e).rows.data;
        all.insert(all.end(), bytes.begin(), bytes.end());
      }
    }
    return all;
  }

  template <class T>
  static std::vector<double> product(const WeightStack& w, uint64_t e, const T* x) {
    std::vector<double> y(w.unpacked().n_rows());
    const uint64_t n = w.unpacked().n_cols();
    for (uint64_t r = 0; r < y.size(); ++r) {
      const float* row = w.row(e, r);
      std::array<double, 4> sums{};
      for (uint64_t c = 0; c < n; ++c) sums[c % 4] += static_cast<double>(row[c]) * x[c];
      y[r] = sums[0] + sums[1] + sums[2] + sums[3];
    }
    return y;
  }

  uint64_t n_embd_, n_ff_, n_experts_;
  WeightStack gate_, up_, down_;
  std::unique_ptr<WeightStack> merged_;
};

/// Tokens, the experts they go to, and the exact outcome.
struct MoeCase {
  const TestExperts& experts;
  uint32_t n_used;
  std::vector<int32_t> ids;
  std::vector<float> x, weights;
  std::vector<double> sums;  // what is to come out

  MoeCase(const TestExperts& experts_, uint32_t n_used_, std::vector<int32_t> ids_, Spread spread)
      : experts(experts_), n_used(n_used_), ids(std::move(ids_)) {
    const uint64_t n_embd = experts.n_embd();
    x = activations(spread, n_tokens(), n_embd, 4);
    const double scale = 1 / experts.input_scale();
    for (float& v : x) v = static_cast<float>(v * scale);
    weights.resize(ids.size());
    std::mt19937 random(5);
    for (float& w : weights) w = std::uniform_real_distribution<float>(0.1f, 1)(random);
    sums.assign(x.size(), 0.0);
    for (size_t slot = 0; slot < ids.size(); ++slot) {
      const uint64_t t = slot / n_used;
      const std::vector<double> out =
          experts.output(static_cast<uint64_t>(ids[slot]), &x[t * n_embd]);
      for (uint64_t i = 0; i < n_embd; ++i) sums[t * n_embd + i] += weights[slot] * out[i];
    }
  }

  uint64_t n_tokens() const { return ids.size() / n_used; }

  /// n of its tokens alone.
  MoeCase tokens(uint64_t first, uint64_t n) const {
    MoeCase part = *this;
    const auto cut = [&](auto& values, uint64_t per_token) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first * per_token);
      values = {begin, begin + static_cast<std::ptrdiff_t>(n * per_token)};
    };
    cut(part.ids, n_used);
    cut(part.weights, n_used);
    cut(part.x, experts.n_embd());
    cut(part.sums, experts.n_embd());
    return part;
  }

  MoeShape shape() const {
    MoeShape shape{.n_experts = static_cast<uint32_t>(experts.n_experts()), .n_used = n_used};
    shape.ff_dim = static_cast<uint32_t>(experts.n_ff());
    return shape;
  }

  std::vector<float> run(const ExpertWeights& w, Workers& workers, MoeFfnScratch& scratch,
                         bool fused = true) const {
    std::vector<float> y = unwritten();
    MatmulInput input;
    input.set(x.data(), n_tokens(), experts.n_embd());
    moe_ffn({input, y.data(), ids, weights, fused}, shape(), w, scratch, workers);
    return y;
  }
  std::vector<float> run(const ExpertWeights& w, Workers& workers) const {
    MoeFfnScratch scratch;
    return run(w, workers, scratch);
  }

  /// What y is before a call: no number.
  std::vector<float> unwritten() const {
    return std::vector<float>(x.size(), std::numeric_limits<float>::quiet_NaN());
  }

  void add_errors(const std::vector<float>& y, RelativeRms& rms) const {
    for (size_t i = 0; i < y.size(); ++i) rms.add(double{y[i]}, sums[i]);
  }
};

/// Each token goes to n_used different ones of the first n experts.
inline std::vector<int32_t> random_ids(uint64_t n_tokens, uint32_t n_used, uint32_t n) {
  std::mt19937 random(11);
  std::vector<int32_t> ids, all(n);
  for (uint32_t e = 0; e < n; ++e) all[e] = static_cast<int32_t>(e);
  for (uint64_t t = 0; t < n_tokens; ++t) {
    std::shuffle(all.begin(), all.end(), random);
    ids.insert(ids.end(), all.begin(), all.begin() + n_used);
  }
  return ids;
}

}  // namespace hybrid::test
