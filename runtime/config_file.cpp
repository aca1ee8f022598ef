#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "placement/json_file.h"
#include "runtime/options.h"

namespace hybrid {
namespace {

/// Options of which a command takes only one: a typed one silences a configured other.
constexpr std::array<std::string_view, 4> kExclusive[] = {{"model", "demo"},
                                                          {"prompt", "file", "tokens", "decode"}};

/// The value as one would type it. Types must fit the option, so that "8" is no number.
std::string value_text(const OptionSpec& spec, const JsonNode& node) {
  const nlohmann::json& value = node.value();
  switch (spec.kind) {
    case OptionKind::toggle:
      if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
      if (value.is_number_integer() && (value == 0 || value == 1)) return value.dump();
      node.fail_expected("true or false");
    case OptionKind::integer:
      if (value.is_number_integer()) return value.dump();
      node.fail_expected("a whole number");
    case OptionKind::number:
      if (value.is_number()) return value.dump();
      node.fail_expected("a number");
    case OptionKind::rules:
    case OptionKind::text:
      break;
  }
  if (!spec.choices.empty() && value.is_number_integer()) return value.dump();  // "mla": 2
  return node.string();
}

[[noreturn]] void unknown_key(const JsonNode& node, std::string_view command) {
  std::vector<std::string> names(std::begin(kPlacementKeys), std::end(kPlacementKeys));
  std::string otherwise = "the keys are the options' long names, \"rules\" and \"devices\"";
  for (const OptionSpec& option : option_table()) {
    names.emplace_back(option.name);
    if (option.short_name == "-" + node.key() && applies_to(option, command)) {
      otherwise = fmt::format("did you mean \"{}\"?", option.name);
    }
  }
  node.fail_unknown_key(names, otherwise);
}

bool is_overruled(const std::string& key, const std::set<std::string>& typed) {
  if (typed.contains(key)) return true;
  for (const auto& group : kExclusive) {
    if (std::find(group.begin(), group.end(), key) == group.end()) continue;
    for (const std::string_view other : group) {
      if (typed.contains(std::string(other))) return true;
    }
  }
  return false;
}

void apply_option(const JsonNode& node, const std::set<std::string>& typed, Options& options) {
  if (node.key() == "config") {
    fail("{}: a config cannot name another config; leave \"config\" out", node.key_where());
  }
  const OptionSpec* spec = find_option(node.key());
  if (spec == nullptr) unknown_key(node, options.command());
  if (spec->kind == OptionKind::rules) {
    fail("{}: a config has its rules in an array \"rules\"; move them there", node.where());
  }
  // One file serves several commands: what another command uses is checked there.
  if (!applies_to(*spec, options.command()) || is_overruled(node.key(), typed)) return;
  try {
    options.set(*spec, value_text(*spec, node), node.where(), ValueSource::config_file);
  } catch (const UsageError& e) {
    throw Error(e.what());  // the command line was right, the file is not
  }
}

}  // namespace

void apply_config_file(const std::string& path, Options& options) {
  const JsonFile file(path, "the config file");
  const JsonNode& root = file.root();
  root.expect_object();
  std::set<std::string> typed;
  for (const OptionSpec& option : option_table()) {
    if (options.is_set(option.name)) typed.emplace(option.name);
  }
  for (const JsonNode* node : root.items()) {
    const std::string& key = node->key();
    if (key == "$schema") {
      node->string();  // for editors
    } else if (std::find(std::begin(kPlacementKeys), std::end(kPlacementKeys), key) ==
               std::end(kPlacementKeys)) {
      apply_option(*node, typed, options);
    }
  }
  options.set_config(path, read_placement_config(root));
}

}  // namespace hybrid
