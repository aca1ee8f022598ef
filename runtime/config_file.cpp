#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/options.h"

namespace hybrid {
namespace {

using nlohmann::json;

/// Options of which a command takes only one: a typed one silences a configured other.
constexpr std::array<std::string_view, 4> kExclusive[] = {{"model", "demo"},
                                                          {"prompt", "file", "tokens", "decode"}};

/// Refuses a key that stands twice: the parser itself would let the last one win.
class DuplicateKeys {
 public:
  explicit DuplicateKeys(const std::string& path) : path_(path) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 &&
        !seen_.insert(parsed.get<std::string>()).second) {
      fail("{}: key \"{}\" stands twice", printable(path_), printable(parsed.get<std::string>()));
    }
    return true;
  }

 private:
  std::string path_;
  std::set<std::string> seen_;
};

json read_json(const std::string& path) {
  const std::string text = read_file(path, "the config file");
  try {
    constexpr bool kThrow = true, kComments = true;
    return json::parse(text, DuplicateKeys(path), kThrow, kComments);
  } catch (const json::parse_error& e) {
    const std::string before = text.substr(0, e.byte > 0 ? e.byte - 1 : 0);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    fail("{}: line {}, column {}: not valid JSON", printable(path), line, column);
  } catch (const json::exception& e) {
    fail("{}: not usable JSON: {}", printable(path), printable(e.what()));
  }
}

std::string found(const json& value) {
  return value.is_structured() ? std::string(value.type_name()) : printable(value.dump());
}

/// The value as one would type it. Types must fit the option, so that "8" is no number.
std::string value_text(const OptionSpec& spec, const json& value, const std::string& where) {
  switch (spec.kind) {
    case OptionKind::toggle:
      if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
      if (value == 0 || value == 1) return value.dump();
      fail("{}: expected true or false, found {}", where, found(value));
    case OptionKind::integer:
      if (value.is_number_integer()) return value.dump();
      fail("{}: expected a whole number, found {}", where, found(value));
    case OptionKind::number:
      if (value.is_number()) return value.dump();
      fail("{}: expected a number, found {}", where, found(value));
    case OptionKind::text:
      break;
  }
  if (value.is_string()) return value.get<std::string>();
  if (!spec.choices.empty() && value.is_number_integer()) return value.dump();  // "mla": 2
  fail("{}: expected a string, found {}", where, found(value));
}

[[noreturn]] void unknown_key(const std::string& path, const std::string& key) {
  std::vector<std::string> names;
  for (const OptionSpec& option : option_table()) names.emplace_back(option.name);
  const std::string nearest = nearest_name(key, names);
  fail("{}: unknown key \"{}\"{}", printable(path), printable(key),
       nearest.empty() ? "; the keys are the options' long names"
                       : "; did you mean \"" + nearest + "\"?");
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

}  // namespace

void apply_config_file(const std::string& path, Options& options) {
  const json config = read_json(path);
  if (!config.is_object()) fail("{}: expected a JSON object", printable(path));
  std::set<std::string> typed;
  for (const OptionSpec& option : option_table()) {
    if (options.is_set(option.name)) typed.emplace(option.name);
  }
  for (const auto& [key, value] : config.items()) {
    if (key == "config") fail("{}: a config cannot name another config", printable(path));
    const OptionSpec* spec = find_option(key);
    if (spec == nullptr) unknown_key(path, key);
    const std::string where = fmt::format("{}: key \"{}\"", printable(path), key);
    // One file serves several commands: what another command uses is checked there.
    if (!applies_to(*spec, options.command()) || is_overruled(key, typed)) continue;
    try {
      options.set(*spec, value_text(*spec, value, where), where);
    } catch (const UsageError& e) {
      throw Error(e.what());  // the command line was right, the file is not
    }
  }
}

}  // namespace hybrid
