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
  if (spec.available == "-") {
    fail_usage("{} is not in this version yet; leave it out", typed);
  }
  if (!spec.available.empty() && !contains_choice(spec.available, value)) {
    fail_usage("{} {} is not in this version yet; it has: {}", typed, printable(value),
               one_of(spec.available));
  }
}

/// The value in the form that is kept.
std::string checked(const OptionSpec& spec, std::string value, std::string_view typed) {
  if (spec.value_name == "FILE" && value.empty()) fail_usage("{}: the file name is empty", typed);
  switch (spec.kind) {
    case OptionKind::toggle:
      value = normalize_toggle(value, typed);
      break;
    case OptionKind::integer:
    case OptionKind::number:
      check_number(spec, value, typed);
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

}  // namespace

std::optional<bool> parse_toggle(std::string_view word) {
  if (word == "1" || word == "on" || word == "true") return true;
  if (word == "0" || word == "off" || word == "false") return false;
  return std::nullopt;
}

void Options::set(const OptionSpec& spec, std::string value, std::string_view typed) {
  if (!applies_to(spec, command_)) {
    fail_usage("{} has no meaning for `{}`; it belongs to: {}", typed, command_,
               join(split(spec.commands, ' '), ", "));
  }
  const bool is_list = takes_list(spec, command_);
  std::vector<std::string> added = is_list ? split(value, ',') : std::vector{std::move(value)};
  for (std::string& part : added) part = checked(spec, std::move(part), typed);
  std::vector<std::string>& values = values_[std::string(spec.name)];
  if (!values.empty() && !spec.repeatable && !is_list) {
    fail_usage("{} is given twice: '{}' and '{}'", typed, printable(values.back()),
               printable(added.front()));
  }
  values.insert(values.end(), added.begin(), added.end());
}

std::optional<std::string> Options::find(std::string_view name) const {
  const auto it = values_.find(name);
  if (it != values_.end()) return it->second.back();
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
  const auto it = values_.find(name);
  if (it != values_.end()) return it->second;
  const auto value = find(name);
  return value ? std::vector{*value} : std::vector<std::string>{};
}

Options Options::with(std::string_view name, const std::string& value) const {
  Options copy = *this;
  copy.values_[std::string(name)] = {value};
  return copy;
}

}  // namespace hybrid
