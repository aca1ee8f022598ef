#include "runtime/config_schema.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "placement/json_node.h"
#include "runtime/option_table.h"

namespace hybrid {
namespace {

using nlohmann::ordered_json;

/// "1" as the number 1 where `type` says so.
ordered_json typed_value(OptionKind type, const std::string& text) {
  if (type == OptionKind::toggle) return text == "1";
  if (type == OptionKind::integer) return std::stoll(text);
  if (type == OptionKind::number) return std::stod(text);
  return text;
}

bool is_digits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

/// One of the choices; a number also as such ("mla": 2). Several, where a command takes a list.
ordered_json choice_schema(const OptionSpec& option, const std::vector<std::string>& choices) {
  ordered_json values = choices;
  for (const std::string& choice : choices) {
    if (is_digits(choice)) values.push_back(std::stoll(choice));
  }
  if (option.list_commands.empty()) return {{"enum", values}};
  const std::string any = "(" + join(choices, "|") + ")";
  return {
      {"anyOf",
       {{{"enum", values}}, {{"type", "string"}, {"pattern", "^" + any + "(," + any + ")*$"}}}}};
}

ordered_json number_schema(const OptionSpec& option) {
  ordered_json schema{{"type", option.kind == OptionKind::integer ? "integer" : "number"}};
  if (option.min < option.max) {
    schema["minimum"] = option.min;
    schema["maximum"] = option.max;
    if (option.kind == OptionKind::integer) {
      schema["minimum"] = static_cast<int64_t>(option.min);
      schema["maximum"] = static_cast<int64_t>(option.max);
    }
  }
  return schema;
}

/// What this version has of a toggle or a number, where that is not all.
ordered_json available_schema(const OptionSpec& option) {
  ordered_json values = ordered_json::array();
  for (const std::string& choice : split(option.available, '|')) {
    values.push_back(typed_value(option.kind, choice));
    if (option.kind == OptionKind::toggle) values.push_back(std::stoll(choice));
  }
  return {{"enum", values}};
}

ordered_json value_schema(const OptionSpec& option) {
  const std::string_view choices = option.available.empty() ? option.choices : option.available;
  if (option.kind == OptionKind::text) {
    if (!choices.empty()) return choice_schema(option, split(choices, '|'));
    ordered_json schema{{"type", "string"}};
    if (option.value_name == "FILE") schema["minLength"] = 1;
    return schema;
  }
  if (!option.available.empty()) return available_schema(option);
  if (option.kind == OptionKind::toggle) return {{"enum", {true, false, 0, 1}}};
  return number_schema(option);
}

ordered_json option_schema(const OptionSpec& option) {
  ordered_json schema{{"description", option.help}};
  schema.update(value_schema(option));
  if (!option.default_value.empty()) {
    schema["default"] = typed_value(option.kind, std::string(option.default_value));
  }
  return schema;
}

constexpr const char* kWithMemory = "CPU|(CUDA|SIM|NODE)(0|[1-9][0-9]*)";

ordered_json rules_schema() {
  const std::string devices = fmt::format("({}|DISK)", kWithMemory);
  const ordered_json device{{"type", "string"}, {"pattern", "^" + devices + "$"}};
  const ordered_json pattern{
      {"type", "string"}, {"minLength", 1}, {"description", "PCRE2, found anywhere in a name"}};
  const ordered_json experts{
      {"type", "string"},
      {"pattern", "^[0-9]+(-[0-9]+)?$"},
      {"description", "which experts of the routed tensors that match: \"0-31\" or \"7\""}};
  const ordered_json object{
      {"type", "object"},
      {"properties", {{"pattern", pattern}, {"device", device}, {"experts", experts}}},
      {"required", {"pattern", "device"}},
      {"additionalProperties", false}};
  const ordered_json text{{"type", "string"}, {"pattern", "^[\\s\\S]+=" + devices + "[,;]?$"}};
  return {{"type", "array"},
          {"description", "placement: where what matches goes; the first rule that matches wins"},
          {"items", {{"anyOf", {text, object}}}}};
}

ordered_json devices_schema() {
  const ordered_json name{{"type", "string"}, {"pattern", fmt::format("^({})$", kWithMemory)}};
  const ordered_json gib{
      {"type", "number"}, {"exclusiveMinimum", 0}, {"maximum", kMaxSizeBytes >> 30}};
  const ordered_json bytes{{"type", "integer"}, {"minimum", 1}, {"maximum", kMaxSizeBytes}};
  const ordered_json device{
      {"type", "object"},
      {"properties", {{"name", name}, {"budget_gib", gib}, {"budget_bytes", bytes}}},
      {"required", {"name"}},
      {"oneOf", {{{"required", {"budget_gib"}}}, {{"required", {"budget_bytes"}}}}},
      {"additionalProperties", false}};
  return {{"type", "array"},
          {"description", "what may be taken of each device's memory; each device once"},
          {"items", device}};
}

}  // namespace

ordered_json config_schema() {
  ordered_json properties{{"$schema", {{"type", "string"}}}};
  for (const OptionSpec& option : option_table()) {
    const bool is_key = option.name != "config" && option.kind != OptionKind::rules;
    if (is_key && is_available(option))
      properties[std::string(option.name)] = option_schema(option);
  }
  properties["rules"] = rules_schema();
  properties["devices"] = devices_schema();
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "hybrid-run config"},
          {"description", "options by their long names, and placement; see docs/config.md"},
          {"type", "object"},
          {"properties", std::move(properties)},
          {"additionalProperties", false}};
}

}  // namespace hybrid
