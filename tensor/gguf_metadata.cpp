#include "tensor/gguf_metadata.h"

#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"

namespace hybrid {
namespace {

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

/// "IT: expected a whole number from 0 to 4294967295, found string 'abc'"
[[noreturn]] void fail_value(const std::string& source, std::string_view key,
                             std::string_view expected, std::string_view found) {
  fail("{}: key '{}': expected {}, found {}", source, printable(key), expected, found);
}

[[noreturn]] void fail_missing(const std::string& source, std::string_view key,
                               std::string_view expected) {
  fail("{}: key '{}': expected {}, found no such key", source, printable(key), expected);
}

/// Nothing where the value is no integer or lies outside T.
template <class T>
std::optional<T> as_integer(const GgufValue& value) {
  if (const auto* u = std::get_if<uint64_t>(&value.value)) {
    if (std::in_range<T>(*u)) return static_cast<T>(*u);
  } else if (const auto* i = std::get_if<int64_t>(&value.value)) {
    if (std::in_range<T>(*i)) return static_cast<T>(*i);
  }
  return std::nullopt;
}

/// Nothing where a finite double is too large for a float; what is lost to rounding is accepted.
std::optional<float> as_float(double value) {
  if (std::isfinite(value) && std::fabs(value) > std::numeric_limits<float>::max()) {
    return std::nullopt;
  }
  return static_cast<float>(value);
}

template <class T>
std::optional<T> find_integer(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<T> number = as_integer<T>(*value);
  if (!number) {
    fail_value(metadata.source(), key,
               fmt::format("a whole number from 0 to {}", std::numeric_limits<T>::max()),
               describe(*value));
  }
  return number;
}

/// The values of an array of type `Vector`, null where the key is missing.
template <class Vector>
const Vector* find_vector(const GgufMetadata& metadata, std::string_view key,
                          std::string_view expected) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(&value->value);
  const auto* values = array == nullptr ? nullptr : std::get_if<Vector>(&array->values);
  if (values == nullptr) fail_value(metadata.source(), key, expected, describe(*value));
  return values;
}

}  // namespace

std::string_view name_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
      return "u8";
    case GgufType::i8:
      return "i8";
    case GgufType::u16:
      return "u16";
    case GgufType::i16:
      return "i16";
    case GgufType::u32:
      return "u32";
    case GgufType::i32:
      return "i32";
    case GgufType::f32:
      return "f32";
    case GgufType::boolean:
      return "bool";
    case GgufType::string:
      return "string";
    case GgufType::array:
      return "array";
    case GgufType::u64:
      return "u64";
    case GgufType::i64:
      return "i64";
    case GgufType::f64:
      return "f64";
  }
  return "unknown";
}

size_t GgufArray::size() const {
  return std::visit([](const auto& v) { return v.size(); }, values);
}

std::string describe(const GgufValue& value) {
  return std::visit(
      Overloaded{
          [&](const std::string& v) { return fmt::format("string '{}'", printable(v)); },
          [&](const GgufArray& v) {
            return fmt::format("array of {} {} values", v.size(), name_of(v.element));
          },
          [&](const auto& v) { return fmt::format("{} {}", name_of(value.type), v); },
      },
      value.value);
}

void GgufMetadata::add(std::string key, GgufValue value) {
  const auto [at, is_new] = index_.emplace(key, entries_.size());
  if (!is_new) {
    fail("{}: key '{}': expected it once, found it twice", source_, printable(key));
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto at = index_.find(std::string(key));
  return at == index_.end() ? nullptr : &entries_[at->second].second;
}

uint32_t GgufMetadata::get_u32(std::string_view key) const {
  const std::optional<uint32_t> value = find_u32(key);
  if (!value) fail_missing(source_, key, "a whole number");
  return *value;
}

float GgufMetadata::get_f32(std::string_view key) const {
  const std::optional<float> value = find_f32(key);
  if (!value) fail_missing(source_, key, "a number");
  return *value;
}

const std::string& GgufMetadata::get_string(std::string_view key) const {
  const std::string* value = find_string(key);
  if (value == nullptr) fail_missing(source_, key, "a string");
  return *value;
}

std::optional<uint32_t> GgufMetadata::find_u32(std::string_view key) const {
  return find_integer<uint32_t>(*this, key);
}

std::optional<uint64_t> GgufMetadata::find_u64(std::string_view key) const {
  return find_integer<uint64_t>(*this, key);
}

std::optional<float> GgufMetadata::find_f32(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* number = std::get_if<double>(&value->value);
  const std::optional<float> result = number == nullptr ? std::nullopt : as_float(*number);
  if (!result) fail_value(source_, key, "an f32 or f64 that fits f32", describe(*value));
  return result;
}

std::optional<bool> GgufMetadata::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* flag = std::get_if<bool>(&value->value);
  if (flag == nullptr) fail_value(source_, key, "a bool", describe(*value));
  return *flag;
}

const std::string* GgufMetadata::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  const auto* text = std::get_if<std::string>(&value->value);
  if (text == nullptr) fail_value(source_, key, "a string", describe(*value));
  return text;
}

const std::vector<std::string>* GgufMetadata::find_strings(std::string_view key) const {
  return find_vector<std::vector<std::string>>(*this, key, "an array of strings");
}

std::optional<std::vector<int64_t>> GgufMetadata::find_ints(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of integers";
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(&value->value);
  if (array != nullptr && std::holds_alternative<std::vector<int64_t>>(array->values)) {
    return std::get<std::vector<int64_t>>(array->values);
  }
  const auto* unsigned_values = find_vector<std::vector<uint64_t>>(*this, key, kExpected);
  std::vector<int64_t> result;
  result.reserve(unsigned_values->size());
  for (const uint64_t v : *unsigned_values) {
    if (!std::in_range<int64_t>(v)) {
      fail_value(source_, key, "integers of at most 63 bits", fmt::format("u64 {}", v));
    }
    result.push_back(static_cast<int64_t>(v));
  }
  return result;
}

std::optional<std::vector<float>> GgufMetadata::find_floats(std::string_view key) const {
  const auto* values = find_vector<std::vector<double>>(*this, key, "an array of f32 or f64");
  if (values == nullptr) return std::nullopt;
  std::vector<float> result;
  result.reserve(values->size());
  for (const double v : *values) {
    const std::optional<float> number = as_float(v);
    if (!number) fail_value(source_, key, "numbers that fit f32", fmt::format("f64 {}", v));
    result.push_back(*number);
  }
  return result;
}

}  // namespace hybrid
