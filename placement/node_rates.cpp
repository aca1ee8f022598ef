#include "placement/node_rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

std::string list_text(const std::vector<double>& rates) {
  std::vector<std::string> words;
  for (const double rate : rates) words.push_back(fmt::format("{:.0f}", rate * 1e-9));
  return join(words, " + ");
}

/// Seconds that a node takes for a byte of its rows, of which 1 / n lie in its own memory.
double scattered_seconds(double local, double remote, double n) {
  return 1 / (n * local) + (n - 1) / (n * remote);
}

}  // namespace

NodeRates node_rates(const std::vector<double>& local, double remote, NumaMode mode) {
  HYBRID_CHECK(!local.empty());
  const auto n = static_cast<double>(local.size());
  const double meet_seconds = local.size() > 1 ? kNodeMeetSeconds : 0;
  switch (mode) {
    case NumaMode::distribute:
      return {std::accumulate(local.begin(), local.end(), 0.0), meet_seconds,
              fmt::format("{} of nodes that read their own memory", list_text(local))};
    case NumaMode::isolate:
      return {local.front(), 0, "one node"};
    case NumaMode::off: {
      double slowest = 0;  // each has 1 / n of the rows
      for (const double rate : local) {
        slowest = std::max(slowest, scattered_seconds(rate, remote, n) / n);
      }
      return {1 / slowest, meet_seconds,
              fmt::format("{} of nodes that read from all, {:.0f} from another's memory",
                          list_text(local), remote * 1e-9)};
    }
    case NumaMode::automatic:
    case NumaMode::numactl:
      break;
  }
  HYBRID_CHECK(!"a mode of --numa that no machine's description has");
  return {};
}

}  // namespace hybrid
