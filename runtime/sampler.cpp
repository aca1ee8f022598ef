#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr size_t kPenaltyWindow = 64;

template <class C>
bool better(const C& a, const C& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// p = softmax(logit / temperature), from candidates sorted best first.
template <class C>
void softmax_at(std::vector<C>& candidates, double temperature) {
  double sum = 0;
  for (C& c : candidates) {
    c.p = std::exp((static_cast<double>(c.logit) - candidates[0].logit) / temperature);
    if (std::isnan(c.p)) c.p = 0;
    sum += c.p;
  }
  for (C& c : candidates) c.p /= sum;
}

}  // namespace

Sampler::Sampler(const SamplingParams& params) : params_(params), random_(params.seed) {}

void Sampler::accept(TokenId token) {
  if (recent_.size() == kPenaltyWindow) recent_.erase(recent_.begin());
  recent_.push_back(token);
}

void Sampler::penalize(std::vector<Candidate>& candidates) const {
  if (params_.repeat_penalty == 1.0f) return;
  for (Candidate& c : candidates) {
    if (std::find(recent_.begin(), recent_.end(), c.id) == recent_.end()) continue;
    c.logit = c.logit > 0 ? c.logit / params_.repeat_penalty : c.logit * params_.repeat_penalty;
  }
}

void Sampler::keep_top_k(std::vector<Candidate>& candidates) const {
  const size_t k =
      params_.top_k <= 0 ? candidates.size() : std::min<size_t>(params_.top_k, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(k),
                    candidates.end(), better<Candidate>);
  candidates.resize(k);
}

void Sampler::keep_probable(std::vector<Candidate>& candidates) const {
  softmax_at(candidates, 1.0);
  double cumulative = 0;
  size_t n = 0;
  while (n < candidates.size() && (n == 0 || cumulative < params_.top_p) &&
         candidates[n].p >= params_.min_p * candidates[0].p) {
    cumulative += candidates[n++].p;
  }
  candidates.resize(std::max<size_t>(1, n));
}

TokenId Sampler::draw(std::vector<Candidate>& candidates) {
  softmax_at(candidates, params_.temperature);
  const double target = static_cast<double>(random_() >> 11) * 0x1p-53;
  double cumulative = 0;
  for (const Candidate& c : candidates) {
    cumulative += c.p;
    if (target < cumulative) return c.id;
  }
  return candidates.back().id;
}

TokenId Sampler::sample(std::span<const float> logits) {
  HYBRID_CHECK(!logits.empty());
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = std::isnan(logits[i]) ? -std::numeric_limits<float>::infinity() : logits[i];
    candidates[i] = {static_cast<TokenId>(i), logit, 0};
  }
  penalize(candidates);
  TokenId token;
  if (params_.temperature <= 0) {
    token = std::min_element(candidates.begin(), candidates.end(), better<Candidate>)->id;
  } else {
    keep_top_k(candidates);
    keep_probable(candidates);
    token = draw(candidates);
  }
  accept(token);
  return token;
}

}  // namespace hybrid
