#include "placement/json_node.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

constexpr double kBytesPerGib = 1 << 30;

std::string in_quotes(std::string_view key) { return "\"" + printable(key) + "\""; }

std::string at(const std::string& path, TextPlace place) {
  return fmt::format("{}: line {}, column {}", path, place.line, place.column);
}

}  // namespace

bool JsonNode::is_object() const { return value_->is_object(); }
bool JsonNode::is_string() const { return value_->is_string(); }

const JsonNode* JsonNode::find(std::string_view key) const {
  const auto it = std::find_if(items_.begin(), items_.end(),
                               [&](const JsonNode* item) { return item->key_ == key; });
  return it == items_.end() || !is_object() ? nullptr : *it;
}

void JsonNode::expect_object() const {
  if (!is_object()) fail_expected("an object");
}

void JsonNode::expect_object(std::span<const std::string_view> keys) const {
  expect_object();
  for (const JsonNode* item : items_) {
    if (std::find(keys.begin(), keys.end(), item->key_) != keys.end()) continue;
    if (parent_ == nullptr && item->key_ == "$schema") continue;
    std::vector<std::string> names(keys.begin(), keys.end()), shown;
    for (const std::string_view key : keys) shown.push_back(in_quotes(key));
    item->fail_unknown_key(names, "the keys are " + join(shown, ", "));
  }
}

std::span<const JsonNode* const> JsonNode::elements() const {
  if (!value_->is_array()) fail_expected("an array");
  return items_;
}

const JsonNode& JsonNode::member(std::string_view key) const {
  const JsonNode* found = find(key);
  if (found == nullptr) fail("{}: expected a key \"{}\", found none", where(), key);
  return *found;
}

const std::string& JsonNode::string() const {
  if (!is_string()) fail_expected("a string");
  return value_->get_ref<const std::string&>();
}

uint64_t JsonNode::whole_number(uint64_t min, uint64_t max) const {
  const bool is_in_range = value_->is_number_unsigned() && value_->get<uint64_t>() >= min &&
                           value_->get<uint64_t>() <= max;
  if (!is_in_range) fail_expected(fmt::format("a whole number from {} to {}", min, max));
  return value_->get<uint64_t>();
}

double JsonNode::positive_number(double max) const {
  const bool is_in_range =
      value_->is_number() && value_->get<double>() > 0 && value_->get<double>() <= max;
  if (!is_in_range) fail_expected(fmt::format("a number above 0 and at most {}", max));
  return value_->get<double>();
}

uint64_t JsonNode::gib_as_bytes() const {
  const double n_bytes = positive_number(kMaxSizeBytes / kBytesPerGib) * kBytesPerGib;
  if (n_bytes < 1) fail_expected("at least a byte, in GiB");
  return static_cast<uint64_t>(n_bytes);
}

uint64_t JsonNode::size_bytes(std::string_view name) const {
  const std::string in_bytes = fmt::format("{}_bytes", name), in_gib = fmt::format("{}_gib", name);
  const JsonNode* bytes = find(in_bytes);
  const JsonNode* gib = find(in_gib);
  if ((bytes == nullptr) == (gib == nullptr)) {
    fail("{}: expected either \"{}\" or \"{}\", found {}", where(), in_gib, in_bytes,
         gib == nullptr ? "neither" : "both");
  }
  return gib != nullptr ? gib->gib_as_bytes() : bytes->whole_number(1, kMaxSizeBytes);
}

std::string JsonNode::name() const {
  if (parent_ == nullptr) return "";
  if (!parent_->is_object()) return fmt::format("{}[{}]", parent_->name(), index_);
  const std::string before = parent_->name();
  return before.empty() ? key_ : before + "." + key_;
}

std::string JsonNode::where() const {
  const std::string place = at(*path_, token_.place);
  return parent_ == nullptr ? place : fmt::format("{}: key {}", place, in_quotes(name()));
}

std::string JsonNode::key_where() const { return at(*path_, key_place_); }

std::string JsonNode::found() const {
  if (is_object()) return "an object";
  if (value_->is_array()) return "an array";
  return printable(token_.text);
}

void JsonNode::fail_expected(std::string_view what) const {
  fail("{}: expected {}, found {}", where(), what, found());
}

void JsonNode::fail_unknown_key(const std::vector<std::string>& keys,
                                std::string_view otherwise) const {
  const std::string nearest = nearest_name(key_, keys);
  fail("{}: unknown key {}; {}", key_where(), in_quotes(key_),
       nearest.empty() ? std::string(otherwise) : "did you mean \"" + nearest + "\"?");
}

}  // namespace hybrid
