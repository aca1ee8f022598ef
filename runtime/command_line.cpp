#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "runtime/options.h"

namespace hybrid {
namespace {

const OptionSpec* find_by_flag(std::string_view flag) {
  for (const OptionSpec& option : option_table()) {
    if (flag == option.short_name) return &option;
    if (flag.starts_with("--") && flag.substr(2) == option.name) return &option;
  }
  return nullptr;
}

[[noreturn]] void unknown_flag(const std::string& flag) {
  if (const auto advice = foreign_flag_advice(flag)) {
    fail_usage("{} has no meaning here: {}", flag, *advice);
  }
  std::vector<std::string> names;
  for (const OptionSpec& option : option_table()) {
    names.push_back("--" + std::string(option.name));
    if (!option.short_name.empty()) names.emplace_back(option.short_name);
  }
  const std::string nearest = nearest_name(flag, names);
  fail_usage("unknown option '{}'{}", printable(flag),
             nearest.empty() ? "; see hybrid-run --help" : "; did you mean " + nearest + "?");
}

bool is_toggle_value(const std::string& word) {
  return word == "0" || word == "1" || word == "on" || word == "off";
}

/// Reads the option at words[i]; returns the index behind it and its value.
size_t parse_option(const std::vector<std::string>& words, size_t i, Options& options) {
  std::string flag = words[i];
  std::optional<std::string> value;
  const size_t equals = flag.find('=');
  if (flag.starts_with("--") && equals != std::string::npos) {
    value = flag.substr(equals + 1);
    flag.resize(equals);
  }
  const OptionSpec* spec = find_by_flag(flag);
  if (spec == nullptr) unknown_flag(flag);
  ++i;
  if (!value && spec->kind == OptionKind::toggle) {
    value = i < words.size() && is_toggle_value(words[i]) ? words[i++] : "1";
  } else if (!value) {
    if (i == words.size()) fail_usage("{} needs a value ({})", flag, spec->value_name);
    value = words[i++];
  }
  options.set(*spec, *value, flag);
  return i;
}

const CommandSpec& parse_command(const std::string& word) {
  const CommandSpec* command = find_command(word);
  if (command != nullptr && command->available) return *command;
  if (command != nullptr) fail_usage("the command `{}` is not in this version yet", word);
  if (word.starts_with("-")) {
    fail_usage("expected a command before '{}', for instance: hybrid-run run {} ...",
               printable(word), printable(word));
  }
  std::vector<std::string> names;
  for (const CommandSpec& c : command_table()) names.emplace_back(c.name);
  const std::string nearest = nearest_name(word, names);
  fail_usage("unknown command '{}'{}", printable(word),
             nearest.empty() ? "; see hybrid-run --help" : "; did you mean " + nearest + "?");
}

}  // namespace

Options parse_command_line(const std::vector<std::string>& words) {
  if (words.empty()) fail_usage("expected a command; see hybrid-run --help");
  Options options(parse_command(words[0]).name);
  for (size_t i = 1; i < words.size();) {
    if (!words[i].starts_with("-") || words[i] == "-") {
      fail_usage("unexpected word '{}'; options begin with a dash", printable(words[i]));
    }
    i = parse_option(words, i, options);
  }
  if (const auto config = options.find("config")) apply_config_file(*config, options);
  return options;
}

}  // namespace hybrid
