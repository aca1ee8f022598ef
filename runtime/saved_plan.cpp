#include "runtime/saved_plan.h"

#include <map>
#include <nlohmann/json.hpp>

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

/// Options that the plan's rules or the plan itself stand for.
const std::set<std::string_view> kNotSaved = {"override-tensor", "cpu-moe",  "n-cpu-moe",
                                              "n-gpu-layers",    "ctx-size", "tensor-split",
                                              "config",          "save",     "json"};

Json value_json(const OptionSpec& spec, const Options& options) {
  switch (spec.kind) {
    case OptionKind::toggle:
      return options.get_toggle(spec.name);
    case OptionKind::integer:
      return options.get_integer(spec.name);
    case OptionKind::number:
      return options.get_number(spec.name);
    default:
      return options.get(spec.name);
  }
}

/// The device of a layer's routed experts that no rule has placed; of others its home.
uint32_t experts_device(const PlacementPlan& plan, uint32_t layer) {
  for (uint32_t i = 0; i < plan.input.model.pieces.size(); ++i) {
    const PlacementUnit& unit = plan.input.model.units[plan.input.model.pieces[i].unit];
    if (unit.kind == UnitKind::routed && unit.layer == layer && !plan.input.rule_of[i]) {
      return plan.fit.placement.device_of[i];
    }
  }
  return plan.fit.placement.home[layer];
}

}  // namespace

std::vector<PlacementRule> reproducing_rules(const PlacementPlan& plan) {
  std::vector<PlacementRule> rules = plan.rules;
  if (plan.devices.size() == 1) return rules;
  const std::vector<uint32_t>& home = plan.fit.placement.home;
  std::map<uint32_t, std::vector<uint32_t>> experts_away, homes;  // layers by device
  for (uint32_t layer = 0; layer < plan.input.model.n_layers; ++layer) {
    const uint32_t experts = experts_device(plan, layer);
    if (experts != home[layer]) experts_away[experts].push_back(layer);
    homes[home[layer]].push_back(layer);
  }
  const auto add = [&](std::string pattern, uint32_t device) {
    rules.push_back({std::move(pattern), plan.devices[device].name, {}, "auto-fit"});
  };
  for (const auto& [device, layers] : experts_away) {
    add(layers_pattern(layers) + std::string(kRoutedPattern.substr(2)), device);
  }
  for (const auto& [device, layers] : homes) add(layers_pattern(layers), device);
  add("^output", home.back());
  add("^token_embd", 0);
  return rules;
}

Json given_options(const Options& options, const std::set<std::string_view>& left_out) {
  Json out = Json::object();
  for (const OptionSpec& spec : option_table()) {
    if (!applies_to(spec, options.command()) || !options.is_set(spec.name)) continue;
    if (!left_out.contains(spec.name)) out[std::string(spec.name)] = value_json(spec, options);
  }
  return out;
}

Json saved_plan(const Options& options, const PlacementRequest& request,
                const PlacementPlan& plan) {
  Json out = given_options(options, kNotSaved);
  out["ctx-size"] = plan.run.sequence.n_ctx;
  const Json placement = config_json({reproducing_rules(plan), request.budgets});
  for (const auto& [key, value] : placement.items()) out[key] = value;
  return out;
}

}  // namespace hybrid
