#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "runtime/options.h"

namespace hybrid {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in.is_open() || in.bad()) fail("{}: cannot read the config file", printable(path));
  try {
    constexpr bool kThrow = true, kComments = true;
    return json::parse(text, nullptr, kThrow, kComments);
  } catch (const json::parse_error& e) {
    const std::string before = text.substr(0, e.byte > 0 ? e.byte - 1 : 0);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    fail("{}: line {}, column {}: not valid JSON", printable(path), line, column);
  }
}

/// The value as one would type it. Types must fit the option, so that "8" is no number.
std::string value_text(const OptionSpec& spec, const json& value, const std::string& where) {
  switch (spec.kind) {
    case OptionKind::toggle:
      if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
      fail("{}: expected true or false, found {}", where, printable(value.dump()));
    case OptionKind::integer:
      if (value.is_number_integer()) return value.dump();
      fail("{}: expected a whole number, found {}", where, printable(value.dump()));
    case OptionKind::number:
      if (value.is_number()) return value.dump();
      fail("{}: expected a number, found {}", where, printable(value.dump()));
    case OptionKind::text:
      break;
  }
  if (value.is_string()) return value.get<std::string>();
  if (!spec.choices.empty() && value.is_number_integer()) return value.dump();  // "mla": 2
  fail("{}: expected a string, found {}", where, printable(value.dump()));
}

[[noreturn]] void unknown_key(const std::string& path, const std::string& key) {
  std::vector<std::string> names;
  for (const OptionSpec& option : option_table()) names.emplace_back(option.name);
  const std::string nearest = nearest_name(key, names);
  fail("{}: unknown key \"{}\"{}", printable(path), printable(key),
       nearest.empty() ? "; the keys are the options' long names"
                       : "; did you mean \"" + nearest + "\"?");
}

}  // namespace

void apply_config_file(const std::string& path, Options& options) {
  const json config = read_json(path);
  if (!config.is_object()) fail("{}: expected a JSON object", printable(path));
  for (const auto& [key, value] : config.items()) {
    const OptionSpec* spec = find_option(key);
    if (spec == nullptr || key == "config") unknown_key(path, key);
    const std::string where = fmt::format("{}: key \"{}\"", printable(path), key);
    // One file serves several commands: what another command uses is checked there.
    if (!applies_to(*spec, options.command()) || options.is_set(key)) continue;
    try {
      options.set(*spec, value_text(*spec, value, where), where);
    } catch (const UsageError& e) {
      throw Error(e.what());  // the command line was right, the file is not
    }
  }
}

}  // namespace hybrid
