#pragma once
// Option values: from the command line, a config file, or the table's defaults.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "placement/config.h"
#include "runtime/option_table.h"

namespace hybrid {

/// 0 | 1 | on | off | true | false, or nothing.
std::optional<bool> parse_toggle(std::string_view word);

/// What the command line asks instead of a command's work.
enum class Question { none, help, version };

/// Who gave a value.
enum class ValueSource { default_value, tuned, config_file, command_line };

class Options {
 public:
  explicit Options(std::string_view command) : command_(command) {}

  /// "" for --help and --version without a command.
  const std::string& command() const { return command_; }
  Question question() const { return question_; }
  void ask(Question question) { question_ = question; }

  /// Checks and keeps a value, or the values of a list where the command takes one. `typed` is the
  /// name as the user wrote it, for errors. Throws UsageError for a value that is invalid or not
  /// available.
  void set(const OptionSpec& spec, std::string value, std::string_view typed,
           ValueSource source = ValueSource::command_line);

  bool is_set(std::string_view name) const { return given_.contains(name); }

  // The value, or the table's default; find_* gives nothing where neither is there.
  std::optional<std::string> find(std::string_view name) const;
  std::string get(std::string_view name) const;  // throws UsageError: the option is needed
  int64_t get_integer(std::string_view name) const;
  std::optional<int64_t> find_integer(std::string_view name) const;
  double get_number(std::string_view name) const;
  bool get_toggle(std::string_view name) const;
  /// All values of a list or of a repeatable option, in order; or the default alone, or none.
  std::vector<std::string> get_list(std::string_view name) const;

  /// default_value also where there is no default and the program decides.
  ValueSource source(std::string_view name) const;
  /// "command line", "config FILE", "tuned (FILE)", "default"
  std::string source_text(std::string_view name) const;

  /// The rules of -ot, then those of the config file; its devices' budgets.
  PlacementConfig placement() const;
  /// Which config file the values of ValueSource::config_file are of, and what it says of
  /// placement.
  void set_config(const std::string& path, PlacementConfig placement) {
    config_path_ = path;
    config_placement_ = std::move(placement);
  }

  /// Which file the values of ValueSource::tuned are of.
  void set_tuned_path(const std::string& path) { tuned_path_ = path; }

  /// A copy in which a list has one value: one of get_list(name).
  Options with(std::string_view name, const std::string& value) const;

 private:
  std::string command_;
  Question question_ = Question::none;
  struct Given {
    std::vector<std::string> values;
    ValueSource source = ValueSource::command_line;
  };
  std::map<std::string, Given, std::less<>> given_;
  std::string config_path_;
  std::string tuned_path_;
  PlacementConfig config_placement_;
};

/// Parses what follows the program's name: COMMAND and its options, in any order of options. Words
/// with one dash are whole words (-ngl 99); --name=value works too. -h, --help and --version, where
/// an option may stand, become a question. A config file named by --config
/// is read here; the command line wins over it. Throws UsageError (and Error for the config file).
Options parse_command_line(const std::vector<std::string>& words);

/// Puts a JSON config's values behind those already set: options by their long names, and placement
/// (docs/config.md). Throws Error with file, line, column and key.
void apply_config_file(const std::string& path, Options& options);

}  // namespace hybrid
