#pragma once
// The one table of options. It drives the command line, the JSON config, --help and the docs.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

enum class OptionKind {
  text,
  integer,
  number,
  toggle,  // may stand bare (1), or takes 0 | 1 | on | off
  rules,   // placement rules (placement/rules.h)
};

struct OptionSpec {
  std::string_view name = "";        // the long name without dashes: the key in a config
  std::string_view short_name = "";  // with its dash ("-ngl"), or ""
  OptionKind kind = OptionKind::text;
  std::string_view value_name = "";  // for help: "FILE", "N"
  std::string_view help = "";
  std::string_view default_value =
      "";                              // as one would type it; "" where none or decided at run time
  std::string_view default_text = "";  // for help, where it differs from default_value
  double min = 0, max = 0;             // for numbers, where min < max
  std::string_view choices = "";       // "a|b|c" where only these are valid
  std::string_view available = "";     // "a|b": the choices that this version has; "" means all
  std::string_view commands = "";      // the commands it applies to: "run chat", or "*"
  std::string_view list_commands = "";  // those in which it takes several values: "1,2,4"
  bool repeatable = false;
};

struct CommandSpec {
  std::string_view name;
  std::string_view summary;
  bool available = true;
};

const std::vector<OptionSpec>& option_table();
const std::vector<CommandSpec>& command_table();

const OptionSpec* find_option(std::string_view name);
const CommandSpec* find_command(std::string_view name);
bool applies_to(const OptionSpec& option, std::string_view command);
bool takes_list(const OptionSpec& option, std::string_view command);
/// Whether this version has it, if not with all its choices.
bool is_available(const OptionSpec& option);

/// "-c" of "-c, --ctx-size": what a user most likely typed.
std::string display_name(const OptionSpec& option);

/// What to use instead of a llama.cpp flag that has no meaning here, or nothing.
std::optional<std::string_view> foreign_flag_advice(std::string_view flag);

std::string help_text();
std::string help_text(const CommandSpec& command);

}  // namespace hybrid
