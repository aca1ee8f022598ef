#include "runtime/tensor_parts.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {
namespace {

ExpertRange range_of(const PlacementRule& rule, const InventoryTensor& t, uint32_t n) {
  if (!rule.experts || t.n_experts == 0) return {0, n - 1};
  if (rule.experts->last >= n) {
    fail("{}: experts {} of {}: it has {}", rule.origin, rule.experts->text(),
         printable(t.tensor->info.name), n);
  }
  return *rule.experts;
}

}  // namespace

std::vector<TensorPart> parts_of(const InventoryTensor& t, std::span<const PlacementRule> rules,
                                 const std::vector<uint32_t>& matches) {
  const uint32_t n = std::max(t.n_experts, 1u);
  std::vector<std::optional<uint32_t>> rule_of(n);
  for (const uint32_t r : matches) {
    const ExpertRange range = range_of(rules[r], t, n);
    for (uint32_t e = range.first; e <= range.last; ++e) {
      if (!rule_of[e]) rule_of[e] = r;
    }
  }
  std::vector<TensorPart> parts;
  for (uint32_t e = 0; e < n; ++e) {
    if (e > 0 && rule_of[e] == rule_of[e - 1]) {
      parts.back().experts.last = e;
    } else {
      parts.push_back({{e, e}, rule_of[e]});
    }
  }
  return parts;
}

bool splits_experts(std::span<const PlacementRule> rules, const PlanMachine& machine) {
  return machine.has_accelerators() &&
         std::ranges::any_of(rules, [](const PlacementRule& r) { return r.experts.has_value(); });
}

TensorSet tensors_on_disk(const GgufFile& file, std::span<const PlacementRule> rules) {
  TensorSet kept;
  const auto is_disk = [&](const TensorPart& part) {
    return part.rule && rules[*part.rule].device.kind == DeviceKind::disk;
  };
  if (std::none_of(rules.begin(), rules.end(), [](const PlacementRule& rule) {
        return rule.device.kind == DeviceKind::disk;
      })) {
    return kept;
  }
  const RuleMatcher matcher(rules);
  for (const InventoryTensor& t : make_inventory(file, 1)) {
    const auto parts = parts_of(t, rules, matcher.matches(t.tensor->info.name));
    const auto on_disk = std::find_if(parts.begin(), parts.end(), is_disk);
    if (on_disk == parts.end()) continue;
    if (!std::all_of(parts.begin(), parts.end(), is_disk)) {
      fail("{}: {}: DISK takes whole tensors, and other experts of {} are elsewhere",
           rules[*on_disk->rule].origin, rules[*on_disk->rule].text(),
           printable(t.tensor->info.name));
    }
    kept.insert(t.tensor);
  }
  return kept;
}

}  // namespace hybrid
