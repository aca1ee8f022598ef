#include "runtime/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

bool contains_choice(std::string_view choices, std::string_view value) {
  const std::vector<std::string> list = split(choices, '|');
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string one_of(std::string_view choices) { return join(split(choices, '|'), ", "); }

template <class T>
std::optional<T> parse_number(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string range_text(const OptionSpec& spec) {
  return spec.min < spec.max ? fmt::format(" from {} to {}", spec.min, spec.max) : "";
}

void check_number(const OptionSpec& spec, const std::string& value, std::string_view typed) {
  const bool whole = spec.kind == OptionKind::integer;
  std::optional<double> number;
  if (!whole) {
    number = parse_number<double>(value);
  } else if (const auto integer = parse_number<int64_t>(value)) {
    number = static_cast<double>(*integer);
  }
  const bool in_range = number && std::isfinite(*number) &&
                        (spec.min >= spec.max || (*number >= spec.min && *number <= spec.max));
  if (!in_range) {
    fail_usage("{}: expected {}{}, found '{}'", typed, whole ? "a whole number" : "a number",
               range_text(spec), printable(value));
  }
}

/// on/off/true/false to 1/0.
std::string normalize_toggle(const std::string& value, std::string_view typed) {
  if (const auto on = parse_toggle(value)) return *on ? "1" : "0";
  fail_usage("{}: expected 0, 1, on or off, found '{}'", typed, printable(value));
}

void check_available(const OptionSpec& spec, const std::string& value, std::string_view typed) {
  if (!is_available(spec)) {
    fail_usage("{} is not in this version yet; leave it out", typed);
  }
  if (!spec.available.empty() && !contains_choice(spec.available, value)) {
    fail_usage("{} {} is not in this version yet; it has: {}", typed, printable(value),
               one_of(spec.available));
  }
}

/// Rules are compiled here, so that a wrong one is told before anything is read.
void check_rules(const std::string& value, std::string_view typed) {
  try {
    parse_rules(value, typed);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

/// The value in the form that is kept.
std::string checked(const OptionSpec& spec, std::string value, std::string_view typed) {
  if (spec.value_name == "FILE" && value.empty()) fail_usage("{}: the file name is empty", typed);
  if (spec.value_name == "FILE" && value.find('\0') != std::string::npos) {
    fail_usage("{}: expected a file name, found one with a zero byte: '{}'", typed,
               printable(value));
  }
  switch (spec.kind) {
    case OptionKind::toggle:
      value = normalize_toggle(value, typed);
      break;
    case OptionKind::integer:
    case OptionKind::number:
      check_number(spec, value, typed);
      break;
    case OptionKind::rules:
      check_rules(value, typed);
      break;
    case OptionKind::text:
      if (!spec.choices.empty() && !contains_choice(spec.choices, value)) {
        fail_usage("{}: expected {}, found '{}'", typed, one_of(spec.choices), printable(value));
      }
      break;
  }
  check_available(spec, value, typed);
  return value;
}

/// The commands that know an option as it was typed: a short name may be of several options.
std::vector<std::string> owners_of(std::string_view typed, const OptionSpec& spec) {
  std::vector<std::string> owners = split(spec.commands, ' ');
  for (const OptionSpec& other : option_table()) {
    if (&other == &spec || typed != other.short_name) continue;
    for (std::string& command : split(other.commands, ' ')) owners.push_back(std::move(command));
  }
  return owners;
}

}  // namespace

std::optional<bool> parse_toggle(std::string_view word) {
  if (word == "1" || word == "on" || word == "true") return true;
  if (word == "0" || word == "off" || word == "false") return false;
  return std::nullopt;
}

void Options::set(const OptionSpec& spec, std::string value, std::string_view typed,
                  ValueSource source) {
  if (!applies_to(spec, command_)) {
    fail_usage("{} has no meaning for `{}`; it belongs to: {}", typed, command_,
               join(owners_of(typed, spec), ", "));
  }
  const bool is_list = takes_list(spec, command_);
  std::vector<std::string> added = is_list ? split(value, ',') : std::vector{std::move(value)};
  for (std::string& part : added) part = checked(spec, std::move(part), typed);
  Given& given = given_[std::string(spec.name)];
  std::vector<std::string>& values = given.values;
  if (!values.empty() && !spec.repeatable && !is_list) {
    fail_usage("{} is given twice: '{}' and '{}'", typed, printable(values.back()),
               printable(added.front()));
  }
  values.insert(values.end(), added.begin(), added.end());
  given.source = source;
}

std::optional<std::string> Options::find(std::string_view name) const {
  const auto it = given_.find(name);
  if (it != given_.end()) return it->second.values.back();
  const OptionSpec* spec = find_option(name);
  HYBRID_CHECK(spec != nullptr && applies_to(*spec, command_));
  if (spec->default_value.empty()) return std::nullopt;
  return std::string(spec->default_value);
}

std::string Options::get(std::string_view name) const {
  if (const auto value = find(name)) return *value;
  fail_usage("`{}` needs {}; see hybrid-run {} --help", command_, display_name(*find_option(name)),
             command_);
}

int64_t Options::get_integer(std::string_view name) const {
  return *parse_number<int64_t>(get(name));
}

std::optional<int64_t> Options::find_integer(std::string_view name) const {
  const auto value = find(name);
  return value ? parse_number<int64_t>(*value) : std::nullopt;
}

double Options::get_number(std::string_view name) const { return *parse_number<double>(get(name)); }

bool Options::get_toggle(std::string_view name) const { return get(name) == "1"; }

std::vector<std::string> Options::get_list(std::string_view name) const {
  const auto it = given_.find(name);
  if (it != given_.end()) return it->second.values;
  const auto value = find(name);
  return value ? std::vector{*value} : std::vector<std::string>{};
}

ValueSource Options::source(std::string_view name) const {
  const auto it = given_.find(name);
  return it == given_.end() ? ValueSource::default_value : it->second.source;
}

std::string Options::source_text(std::string_view name) const {
  switch (source(name)) {
    case ValueSource::command_line:
      return "command line";
    case ValueSource::config_file:
      return "config " + printable(config_path_);
    case ValueSource::tuned:
      return fmt::format("tuned ({})", printable(tuned_path_, 4096));
    case ValueSource::default_value:
      break;
  }
  return "default";
}

PlacementConfig Options::placement() const {
  PlacementConfig placement;
  if (const auto it = given_.find("override-tensor"); it != given_.end()) {
    for (const std::string& value : it->second.values) {
      const std::vector<PlacementRule> rules = parse_rules(value, "-ot");
      placement.rules.insert(placement.rules.end(), rules.begin(), rules.end());
    }
  }
  placement.rules.insert(placement.rules.end(), config_placement_.rules.begin(),
                         config_placement_.rules.end());
  placement.devices = config_placement_.devices;
  return placement;
}

Options Options::with(std::string_view name, const std::string& value) const {
  Options copy = *this;
  copy.given_[std::string(name)].values = {value};
  return copy;
}

}  // namespace hybrid
