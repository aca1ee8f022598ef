#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "placement/rules.h"

namespace hybrid {

std::string layers_pattern(const std::vector<uint32_t>& layers) {
  return fmt::format(R"(^blk\.({})\.)", fmt::join(layers, "|"));
}

namespace {

std::string layers_pattern(uint32_t first, uint32_t end) {
  std::vector<uint32_t> layers(end - first);
  std::iota(layers.begin(), layers.end(), first);
  return hybrid::layers_pattern(layers);
}

/// Where each GPU's part of n layers ends.
std::vector<uint32_t> part_ends(uint32_t n, std::vector<double> shares, size_t n_gpus) {
  if (shares.empty()) shares.assign(n_gpus, 1.0);
  if (shares.size() > n_gpus) {
    fail("-ts: {} shares for {} GPU{}", shares.size(), n_gpus, n_gpus == 1 ? "" : "s");
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  const bool is_valid = std::all_of(shares.begin(), shares.end(), [](double s) { return s >= 0; });
  if (!is_valid || !(sum > 0)) fail("-ts: expected shares of at least 0, one of them above it");
  std::vector<uint32_t> ends;
  double before = 0;
  for (const double share : shares) {
    before += share;
    // As many layers as begin before the end of its share.
    ends.push_back(static_cast<uint32_t>(std::ceil(n * before / sum - 1e-9)));
  }
  ends.back() = n;
  return ends;
}

/// Layers [n_layers - n, n_layers), and the output as one more, on the GPUs; all others not.
std::vector<PlacementRule> gpu_layer_rules(uint32_t n, const std::vector<double>& shares,
                                           uint32_t n_layers, std::span<const DeviceName> gpus) {
  const std::string origin = fmt::format("-ngl {}", n);
  const DeviceName cpu;
  std::vector<PlacementRule> rules;
  const uint32_t n_on_gpu = std::min(n, n_layers + 1);
  const uint32_t first = n_layers - std::min(n, n_layers);
  if (n_on_gpu > 0) {
    if (gpus.empty()) fail("{}: there is no GPU; use -ngl 0, or leave it out", origin);
    const std::vector<uint32_t> ends = part_ends(n_on_gpu, shares, gpus.size());
    uint32_t begin = 0;
    for (size_t i = 0; i < ends.size(); begin = ends[i++]) {
      const uint32_t layer_end = std::min(first + ends[i], n_layers);
      if (first + begin < layer_end) {
        rules.push_back({layers_pattern(first + begin, layer_end), gpus[i], {}, origin});
      }
      if (first + ends[i] > n_layers && first + begin <= n_layers) {
        rules.push_back({"^output", gpus[i], {}, origin});
      }
    }
  }
  if (first > 0) rules.push_back({layers_pattern(0, first), cpu, {}, origin});
  if (n_on_gpu <= n_layers) rules.push_back({"^output", cpu, {}, origin});
  rules.push_back({"^token_embd", cpu, {}, origin});
  return rules;
}

}  // namespace

std::vector<PlacementRule> shorthand_rules(const PlacementShorthands& s, uint32_t n_layers,
                                           std::span<const DeviceName> gpus) {
  std::vector<PlacementRule> rules;
  const DeviceName cpu;
  if (s.cpu_moe) rules.push_back({std::string(kRoutedPattern), cpu, {}, "--cpu-moe"});
  if (s.n_cpu_moe && *s.n_cpu_moe > 0) {
    const std::string layers = layers_pattern(0, std::min(*s.n_cpu_moe, n_layers));
    rules.push_back({layers + std::string(kRoutedPattern.substr(2)),
                     cpu,
                     {},
                     fmt::format("--n-cpu-moe {}", *s.n_cpu_moe)});
  }
  if (!s.n_gpu_layers && !s.tensor_split.empty()) {
    fail_usage("-ts: it shares out the layers of -ngl; give -ngl, too");
  }
  if (s.n_gpu_layers) {
    auto more = gpu_layer_rules(*s.n_gpu_layers, s.tensor_split, n_layers, gpus);
    rules.insert(rules.end(), more.begin(), more.end());
  }
  return rules;
}

}  // namespace hybrid
