#include "placement/config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"

namespace hybrid {
namespace {

DeviceName read_device(const JsonNode& node) {
  const std::string& word = node.string();
  const auto device = parse_device(word);
  if (!device) fail("{}: {}", node.where(), unknown_device_text(word));
  return *device;
}

PlacementRule rule_of_string(const JsonNode& node) {
  const std::vector<PlacementRule> rules = parse_rules(node.string(), node.where());
  if (rules.size() != 1) {
    fail("{}: expected one rule, found {}; make each an element of \"rules\"", node.where(),
         rules.size());
  }
  return rules.front();
}

PlacementRule rule_of_object(const JsonNode& node) {
  constexpr std::string_view kKeys[] = {"pattern", "device", "experts"};
  node.expect_object(kKeys);
  const JsonNode& pattern = node.member("pattern");
  PlacementRule rule{.pattern = pattern.string(),
                     .device = read_device(node.member("device")),
                     .origin = pattern.where()};
  if (rule.pattern.empty()) {
    pattern.fail_expected("a regular expression (\".\" matches all tensors)");
  }
  if (const JsonNode* experts = node.find("experts")) {
    rule.experts = ExpertRange::parse(experts->string());
    if (!rule.experts) experts->fail_expected("a range of experts, as in \"0-31\" or \"7\"");
  }
  const RuleMatcher check(std::span(&rule, 1));
  return rule;
}

PlacementRule read_rule(const JsonNode& node) {
  if (!node.is_string() && !node.is_object()) {
    node.fail_expected("a rule: a string RE=DEVICE or an object with \"pattern\" and \"device\"");
  }
  PlacementRule rule = node.is_string() ? rule_of_string(node) : rule_of_object(node);
  rule.origin = fmt::format("{} of {}", node.name(), node.path());
  return rule;
}

DeviceBudget read_budget(const JsonNode& node) {
  constexpr std::string_view kKeys[] = {"name", "budget_gib", "budget_bytes"};
  node.expect_object(kKeys);
  const JsonNode& name = node.member("name");
  const DeviceName device = read_device(name);
  if (device.kind == DeviceKind::disk) {
    fail("{}: DISK takes no budget: what lies there stays in the model's file", name.where());
  }
  return {device, node.size_bytes("budget")};
}

std::vector<DeviceBudget> read_budgets(const JsonNode& node) {
  std::vector<DeviceBudget> budgets;
  for (const JsonNode* element : node.elements()) {
    const DeviceBudget budget = read_budget(*element);
    const auto first = std::find_if(budgets.begin(), budgets.end(),
                                    [&](const auto& b) { return b.device == budget.device; });
    if (first != budgets.end()) {
      fail("{}: {} stands in {}[{}] already; leave one out", element->member("name").where(),
           text_of(budget.device), node.name(), first - budgets.begin());
    }
    budgets.push_back(budget);
  }
  return budgets;
}

}  // namespace

PlacementConfig read_placement_config(const JsonNode& root) {
  PlacementConfig config;
  if (const JsonNode* rules = root.find("rules")) {
    for (const JsonNode* rule : rules->elements()) config.rules.push_back(read_rule(*rule));
  }
  if (const JsonNode* devices = root.find("devices")) config.devices = read_budgets(*devices);
  return config;
}

nlohmann::ordered_json config_json(const PlacementConfig& config) {
  nlohmann::ordered_json rules = nlohmann::ordered_json::array(), devices = rules;
  for (const PlacementRule& rule : config.rules) {
    if (find_invalid_utf8(rule.pattern) != std::string_view::npos) {
      fail("{}: expected a pattern in UTF-8, which a config can hold, found '{}'", rule.origin,
           printable(rule.pattern));
    }
    // Always an object: in a string, an expression that has `=CPU,` in it would be two rules.
    nlohmann::ordered_json object{{"pattern", rule.pattern}, {"device", text_of(rule.device)}};
    if (rule.experts) object["experts"] = rule.experts->text();
    rules.push_back(std::move(object));
  }
  for (const DeviceBudget& budget : config.devices) {
    devices.push_back({{"name", text_of(budget.device)}, {"budget_bytes", budget.budget_bytes}});
  }
  return {{"rules", std::move(rules)}, {"devices", std::move(devices)}};
}

}  // namespace hybrid
