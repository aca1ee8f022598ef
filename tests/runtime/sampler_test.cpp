#include "runtime/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <vector>

using namespace hybrid;

namespace {

std::map<TokenId, int> draw_many(SamplingParams params, const std::vector<float>& logits,
                                 int n = 20000) {
  Sampler sampler(params);
  std::map<TokenId, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.sample(logits)];
  return counts;
}

SamplingParams open_params() {
  SamplingParams params;
  params.temperature = 1;
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0;
  return params;
}

}  // namespace

TEST_CASE("temperature 0 takes the largest logit, the lower id in a tie") {
  SamplingParams params;
  params.temperature = 0;
  Sampler sampler(params);
  const std::vector<float> logits{1, 5, NAN, 5, -2};
  for (int i = 0; i < 3; ++i) CHECK(sampler.sample(logits) == 1);
}

TEST_CASE("draws follow softmax(logits / temperature)") {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  auto counts = draw_many(open_params(), logits);
  CHECK(counts[0] == doctest::Approx(10000).epsilon(0.03));
  CHECK(counts[1] == doctest::Approx(6000).epsilon(0.03));
  SamplingParams hot = open_params();
  hot.temperature = 0.5;  // probabilities squared: .25 .09 .04 over .38
  counts = draw_many(hot, logits);
  CHECK(counts[0] == doctest::Approx(20000 * 0.25 / 0.38).epsilon(0.03));
}

TEST_CASE("top-k, top-p and min-p each cut the tail") {
  const std::vector<float> logits{std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  SamplingParams params = open_params();
  params.top_k = 2;
  CHECK(draw_many(params, logits).size() == 2);
  params = open_params();
  params.top_p = 0.65f;
  CHECK(draw_many(params, logits).size() == 2);
  params = open_params();
  params.min_p = 0.45f;  // of the best: 0.18
  CHECK(draw_many(params, logits).size() == 3);
  params.min_p = 1;
  CHECK(draw_many(params, logits).size() == 1);
}

TEST_CASE("the same seed draws the same, another seed something else") {
  const std::vector<float> logits(1000, 0.0f);
  SamplingParams params = open_params();
  const auto draw = [&](uint64_t seed) {
    params.seed = seed;
    Sampler sampler(params);
    std::vector<TokenId> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  CHECK(draw(3) == draw(3));
  CHECK(draw(3) != draw(4));
}

TEST_CASE("the repeat penalty moves on from what was said") {
  SamplingParams params;
  params.temperature = 0;
  params.repeat_penalty = 2;
  Sampler sampler(params);
  const std::vector<float> logits{3, 2, -1};
  CHECK(sampler.sample(logits) == 0);
  CHECK(sampler.sample(logits) == 1);  // 3 became 1.5
  Sampler told(params);
  told.accept(0);
  CHECK(told.sample(logits) == 1);
}

TEST_CASE("whatever the logits, the token is in the vocabulary") {
  for (const float value : {NAN, -INFINITY, INFINITY}) {
    const std::vector<float> logits(5, value);
    Sampler sampler(SamplingParams{});
    const TokenId id = sampler.sample(logits);
    CHECK(id >= 0);
    CHECK(id < 5);
  }
}
