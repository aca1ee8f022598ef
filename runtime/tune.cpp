#include "runtime/tune.h"

#include <algorithm>
#include <functional>
#include <set>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr double kLeavesBelow = 0.8;  // of the best

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Of the rounds that both took part in: they begin together, and one may leave. 0 for a single
/// round: that says nothing.
double median_ratio(const std::vector<double>& tps, const std::vector<double>& usual) {
  std::vector<double> ratios;
  if (tps.size() < 2) return 0;
  for (size_t i = 0; i < std::min(tps.size(), usual.size()); ++i)
    ratios.push_back(tps[i] / usual[i]);
  return median(std::move(ratios));
}

}  // namespace

double TuneSearch::Candidate::typical() const { return median(tps); }

std::optional<TuneSearch> find_fastest(size_t n_candidates, size_t usual, const TuneEffort& effort,
                                       FunctionRef<std::optional<double>(size_t)> measure,
                                       FunctionRef<double()> now) {
  HYBRID_CHECK(usual < n_candidates);
  TuneSearch search;
  search.candidates.resize(n_candidates);
  search.chosen = usual;
  std::vector<size_t> in_play{usual};
  for (size_t i = 0; i < n_candidates; ++i) {
    if (i != usual) in_play.push_back(i);
  }
  const double start = now();
  double round_seconds = 0;
  for (uint32_t round = 0; round < effort.n_rounds; ++round) {
    const double round_start = now();
    if (round > 0 && round_start - start + round_seconds > effort.seconds) break;
    for (const size_t i : in_play) {
      if (round == 0 && i != usual && now() - start > effort.seconds / 2) break;
      const std::optional<double> tps = measure(i);
      if (!tps) return std::nullopt;
      search.candidates[i].tps.push_back(*tps);
    }
    const auto n_before = static_cast<double>(in_play.size());
    double best = 0;
    for (const size_t i : in_play) best = std::max(best, search.candidates[i].typical());
    std::erase_if(in_play, [&](size_t i) {
      return i != usual && search.candidates[i].typical() < kLeavesBelow * best;
    });
    if (in_play.size() == 1) break;  // nobody is left to be compared with
    round_seconds = (now() - round_start) * static_cast<double>(in_play.size()) / n_before;
  }
  double best_ratio = 1 + effort.least_gain;
  for (const size_t i : in_play) {
    const double ratio = median_ratio(search.candidates[i].tps, search.candidates[usual].tps);
    if (i == usual || ratio < best_ratio) continue;
    best_ratio = ratio;
    search.chosen = i;
  }
  return search;
}

std::vector<int> thread_candidates(int n_cores, int n_processors, int n_nodes) {
  std::set<int, std::greater<>> counts{1, n_cores};
  for (int n = n_cores; n > 1; n /= 2) {
    counts.insert(n);
    counts.insert(n * 3 / 4);
  }
  for (int node = 1; node < n_nodes; ++node) counts.insert(n_cores * node / n_nodes);
  if (n_processors > n_cores) counts.insert(n_processors);
  std::erase_if(counts, [](int n) { return n < 1 || n > 4096; });
  return {counts.begin(), counts.end()};
}

}  // namespace hybrid
