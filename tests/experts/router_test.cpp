#include "experts/router.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace hybrid;

namespace {

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Choice route(const MoeShape& shape, const std::vector<float>& logits,
             const std::vector<float>& bias = {}) {
  Choice c{std::vector<int32_t>(shape.n_used), std::vector<float>(shape.n_used)};
  route_token(shape, logits, bias, c.ids, c.weights);
  return c;
}

float logit(float p) { return std::log(p / (1 - p)); }

using Ids = std::vector<int32_t>;

}  // namespace

TEST_CASE("softmax gating: the best first, weights are probabilities") {
  MoeShape shape{.n_experts = 4, .n_used = 2};
  const Choice c = route(shape, {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)});
  CHECK(c.ids == Ids{1, 3});
  CHECK(c.weights[0] == doctest::Approx(0.4));
  CHECK(c.weights[1] == doctest::Approx(0.3));
}

TEST_CASE("the bias steers the choice, never the weights") {
  MoeShape shape{.n_experts = 3, .n_used = 2, .gating = Gating::sigmoid};
  shape.normalize_weights = true;
  shape.weights_scale = 2.5f;
  const Choice c = route(shape, {logit(0.6f), logit(0.5f), logit(0.2f)}, {0, 0, 1});
  CHECK(c.ids == Ids{2, 0});
  CHECK(c.weights[0] == doctest::Approx(2.5 * 0.2 / 0.8));
  CHECK(c.weights[1] == doctest::Approx(2.5 * 0.6 / 0.8));
}

TEST_CASE("V3 keeps groups by the sum of their two best, V2 by the best one") {
  // Group 0 has the single best expert, group 1 the better pair, group 2 nothing.
  const std::vector<float> logits{logit(0.9f), logit(0.1f), logit(0.7f),
                                  logit(0.6f), logit(0.2f), logit(0.2f)};
  MoeShape shape{.n_experts = 6, .n_used = 2, .gating = Gating::sigmoid};
  shape.n_groups = 3;
  shape.n_groups_used = 1;
  shape.group_rule = GroupRule::top2_sum;
  CHECK(route(shape, logits).ids == Ids{2, 3});
  shape.group_rule = GroupRule::max;
  CHECK(route(shape, logits).ids == Ids{0, 1});
  shape.group_rule = GroupRule::none;
  CHECK(route(shape, logits).ids == Ids{0, 2});
}

TEST_CASE("equal scores go to the lower id") {
  const MoeShape shape{.n_experts = 5, .n_used = 3};
  CHECK(route(shape, {0, 0, 0, 0, 0}).ids == Ids{0, 1, 2});
}

TEST_CASE("damaged logits still give a valid choice") {
  const MoeShape shape{.n_experts = 4, .n_used = 4};
  for (const Gating gating : {Gating::softmax, Gating::sigmoid}) {
    MoeShape s = shape;
    s.gating = gating;
    const Choice c = route(s, {NAN, INFINITY, -INFINITY, NAN});
    std::vector<bool> seen(4, false);
    for (const int32_t id : c.ids) seen.at(id) = true;
    CHECK(seen == std::vector<bool>(4, true));
  }
}

TEST_CASE("a replayed choice is weighed by this pass's own probabilities") {
  MoeShape shape{.n_experts = 4, .n_used = 2, .gating = Gating::sigmoid};
  const std::vector<float> logits{logit(0.6f), logit(0.5f), logit(0.2f), logit(0.1f)};
  const std::vector<int32_t> ids{3, 1};
  std::vector<float> weights(2);
  weigh_choice(shape, logits, ids, weights);
  CHECK(weights[0] == doctest::Approx(0.1));
  CHECK(weights[1] == doctest::Approx(0.5));
}
