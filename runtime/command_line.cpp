#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "runtime/options.h"

namespace hybrid {
namespace {

/// Short names may mean another thing to another command (-c); the command's own goes first.
const OptionSpec* find_by_flag(std::string_view flag, std::string_view command) {
  const OptionSpec* found = nullptr;
  for (const OptionSpec& option : option_table()) {
    const bool is_it =
        flag == option.short_name || (flag.starts_with("--") && flag.substr(2) == option.name);
    if (is_it && (found == nullptr || applies_to(option, command))) found = &option;
  }
  return found;
}

std::string without_dashes(std::string_view flag) {
  return std::string(flag.substr(std::min(flag.size(), flag.find_first_not_of('-'))));
}

[[noreturn]] void unknown_flag(const std::string& flag) {
  if (const auto advice = foreign_flag_advice(flag)) {
    fail_usage("{} has no meaning here: {}", flag, *advice);
  }
  std::vector<std::string> names;
  for (const OptionSpec& option : option_table()) names.emplace_back(option.name);
  const std::string nearest = nearest_name(without_dashes(flag), names);
  fail_usage("unknown option '{}'{}", printable(flag),
             nearest.empty() ? "; see hybrid-run --help" : "; did you mean --" + nearest + "?");
}

/// Reads the option at words[i]; returns the index behind it and its value.
size_t parse_option(const std::vector<std::string>& words, size_t i, Options& options) {
  std::string flag = words[i];
  std::optional<std::string> value;
  const size_t equals = flag.find('=');
  if (equals != std::string::npos) {
    value = flag.substr(equals + 1);
    flag.resize(equals);
  }
  const OptionSpec* spec = find_by_flag(flag, options.command());
  if (spec == nullptr) unknown_flag(flag);
  ++i;
  if (!value && spec->kind == OptionKind::toggle) {
    // It may stand bare; a model behind it is another mistake.
    const bool has_value =
        i < words.size() && !words[i].starts_with("-") && !words[i].ends_with(".gguf");
    value = has_value ? words[i++] : "1";
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

Question question_in(const std::string& word) {
  if (word == "--help" || word == "-h") return Question::help;
  return word == "--version" ? Question::version : Question::none;
}

/// `help`, `help COMMAND`, `--help`, `--version`, and --help of a command that is still to come.
std::optional<Options> parse_question(const std::vector<std::string>& words) {
  const bool help = words[0] == "help" || question_in(words[0]) == Question::help;
  const CommandSpec* later = find_command(words[0]);
  const bool help_of_later = later != nullptr && !later->available && words.size() > 1 &&
                             question_in(words[1]) == Question::help;
  if (!help && !help_of_later && question_in(words[0]) != Question::version) return std::nullopt;
  std::string command = help_of_later ? words[0] : "";
  if (help && words.size() > 1) {
    command = words[1];
    if (find_command(command) == nullptr) parse_command(command);  // throws
  }
  Options options(command);
  options.ask(help || help_of_later ? Question::help : Question::version);
  return options;
}

}  // namespace

Options parse_command_line(const std::vector<std::string>& words) {
  if (words.empty()) fail_usage("expected a command; see hybrid-run --help");
  if (auto question = parse_question(words)) return *question;
  Options options(parse_command(words[0]).name);
  for (size_t i = 1; i < words.size();) {
    if (const Question question = question_in(words[i]); question != Question::none) {
      options.ask(question);
      return options;
    }
    if (!words[i].starts_with("-") || words[i] == "-") {
      const bool is_model = words[i].ends_with(".gguf");
      fail_usage("unexpected word '{}'; {}", printable(words[i]),
                 is_model ? "name the model with -m" : "options begin with a dash");
    }
    i = parse_option(words, i, options);
  }
  if (const auto config = options.find("config")) apply_config_file(*config, options);
  return options;
}

}  // namespace hybrid
