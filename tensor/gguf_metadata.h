#pragma once
// The key-value part of a GGUF: every type of the format, and typed access whose errors name the
// file, the key, what was expected and what was found.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace hybrid {

/// The numbers are the format's.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view name_of(GgufType type);  // "u32", "string", "array", ...

struct GgufValue;

/// An array of one element type. Integers are widened to 64 bits and floats to double, exactly;
/// `element` keeps the type that stood in the file.
struct GgufArray {
  GgufType element = GgufType::u8;
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
               std::vector<std::string>, std::vector<GgufArray>>
      values;

  size_t size() const;
};

struct GgufValue {
  GgufType type = GgufType::u8;
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;
};

/// For messages: "u32 7", "string 'abc'" (escaped and shortened), "array of 384 string values".
std::string describe(const GgufValue& value);

/// Keys in file order. The source name (a path) stands in every error.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string source) : source_(std::move(source)) {}

  /// Throws where the key is there already.
  void add(std::string key, GgufValue value);

  const std::string& source() const { return source_; }
  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }
  const GgufValue* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }

  // Typed access. get_* throws where the key is missing; find_* gives nothing then. Both throw
  // where the value has another type or does not fit (any integer type is accepted that holds the
  // value; f32 and f64 for floats). Strings and arrays stay valid as long as the metadata.
  uint32_t get_u32(std::string_view key) const;
  float get_f32(std::string_view key) const;
  const std::string& get_string(std::string_view key) const;
  std::optional<uint32_t> find_u32(std::string_view key) const;
  std::optional<uint64_t> find_u64(std::string_view key) const;
  std::optional<float> find_f32(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  const std::string* find_string(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;
  /// An array of any integer type, each element fitting i64.
  std::optional<std::vector<int64_t>> find_ints(std::string_view key) const;
  std::optional<std::vector<float>> find_floats(std::string_view key) const;

 private:
  std::string source_;
  std::vector<std::pair<std::string, GgufValue>> entries_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace hybrid
