#include "experts/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"

namespace hybrid {

std::string_view name_of(Gating gating) {
  return gating == Gating::sigmoid ? "sigmoid" : "softmax";
}

std::string_view name_of(GroupRule rule) {
  switch (rule) {
    case GroupRule::top2_sum:
      return "sum of the two best";
    case GroupRule::max:
      return "best one";
    default:
      return "none";
  }
}

namespace {

constexpr double kMasked = -std::numeric_limits<double>::infinity();

std::vector<double> probabilities(Gating gating, std::span<const float> logits) {
  std::vector<double> p(logits.begin(), logits.end());
  if (gating == Gating::sigmoid) {
    for (double& value : p) value = 1 / (1 + std::exp(-value));
    return p;
  }
  const double max = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& value : p) sum += value = std::exp(value - max);
  for (double& value : p) value /= sum;
  return p;
}

/// The indices of the n largest scores, best first; equal scores in order of index.
std::vector<int32_t> top_indices(std::span<const double> scores, uint32_t n) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](int32_t a, int32_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  order.resize(n);
  return order;
}

double group_score(GroupRule rule, std::span<const double> scores) {
  double best = kMasked, second = kMasked;
  for (const double s : scores) {
    if (s > best) {
      second = best;
      best = s;
    } else {
      second = std::max(second, s);
    }
  }
  return rule == GroupRule::max || scores.size() == 1 ? best : best + second;
}

void mask_other_groups(const MoeShape& shape, std::span<double> scores) {
  const uint32_t group_size = shape.n_experts / shape.n_groups;
  std::vector<double> group_scores(shape.n_groups);
  for (uint32_t g = 0; g < shape.n_groups; ++g) {
    group_scores[g] = group_score(shape.group_rule, scores.subspan(g * group_size, group_size));
  }
  std::vector<bool> kept(shape.n_groups, false);
  for (const int32_t g : top_indices(group_scores, shape.n_groups_used)) kept[g] = true;
  for (uint32_t e = 0; e < shape.n_experts; ++e) {
    if (!kept[e / group_size]) scores[e] = kMasked;
  }
}

void weigh(const MoeShape& shape, std::span<const double> p, std::span<const int32_t> ids,
           std::span<float> weights) {
  double sum = 0;
  for (const int32_t id : ids) sum += p[id];
  const double scale = shape.weights_scale / (shape.normalize_weights ? sum : 1.0);
  for (size_t k = 0; k < ids.size(); ++k) weights[k] = static_cast<float>(p[ids[k]] * scale);
}

}  // namespace

void route_token(const MoeShape& shape, std::span<const float> logits, std::span<const float> bias,
                 std::span<int32_t> ids, std::span<float> weights) {
  HYBRID_CHECK(logits.size() == shape.n_experts && ids.size() == shape.n_used);
  const std::vector<double> p = probabilities(shape.gating, logits);
  std::vector<double> scores = p;
  for (size_t e = 0; e < bias.size(); ++e) scores[e] += bias[e];
  // Damaged weights can give NaN, which no ordering survives: such an expert is chosen last.
  for (double& s : scores) s = std::isnan(s) ? kMasked : s;
  if (shape.group_rule != GroupRule::none) mask_other_groups(shape, scores);
  const std::vector<int32_t> chosen = top_indices(scores, shape.n_used);
  std::copy(chosen.begin(), chosen.end(), ids.begin());
  weigh(shape, p, ids, weights);
}

void weigh_choice(const MoeShape& shape, std::span<const float> logits,
                  std::span<const int32_t> ids, std::span<float> weights) {
  weigh(shape, probabilities(shape.gating, logits), ids, weights);
}

}  // namespace hybrid
