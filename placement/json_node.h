#pragma once
// A value of a JSON file that knows its place, and what a reader may expect of it. Every method
// that checks throws Error: "FILE: line 7, column 12: key "rules[2].device": expected a string,
// found 3".

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "placement/json_tokens.h"

namespace hybrid {

/// The largest size that a file may give: more is most likely bytes where GiB are expected.
constexpr uint64_t kMaxSizeBytes = uint64_t{1} << 50;

/// Of a JsonFile, which it must not outlive.
class JsonNode {
 public:
  bool is_object() const;
  bool is_string() const;
  /// Of an object or an array an empty one.
  const nlohmann::json& value() const { return *value_; }
  /// "" for elements of arrays and for the whole file.
  const std::string& key() const { return key_; }
  /// Members or elements, in the order of the file.
  std::span<const JsonNode* const> items() const { return items_; }
  /// A member; nullptr where there is none.
  const JsonNode* find(std::string_view key) const;

  // --- what is expected -------------------------------------------------------------------------

  void expect_object() const;
  /// An object with no keys but these (and "$schema" in the whole file, which editors look at).
  void expect_object(std::span<const std::string_view> keys) const;
  /// The elements of an array.
  std::span<const JsonNode* const> elements() const;
  /// A member that must be there.
  const JsonNode& member(std::string_view key) const;
  const std::string& string() const;
  uint64_t whole_number(uint64_t min, uint64_t max) const;
  double positive_number(double max) const;
  /// Of an object: the size in its NAME_bytes or NAME_gib, one of which must be there.
  uint64_t size_bytes(std::string_view name) const;
  /// A number of GiB.
  uint64_t gib_as_bytes() const;

  // --- what is said of it -----------------------------------------------------------------------

  const std::string& path() const { return *path_; }  // of the file, printable
  std::string name() const;                           // "rules[2].device"
  std::string where() const;      // FILE: line 7, column 12: key "rules[2].device"
  std::string key_where() const;  // FILE: line 7, column 2
  std::string found() const;      // as it is written in the file; "an array"
  /// Throws "WHERE: expected WHAT, found FOUND".
  [[noreturn]] void fail_expected(std::string_view what) const;
  /// Throws "KEY_WHERE: unknown key "KEY"; did you mean "NEAREST"?", or with `otherwise` where no
  /// name comes near.
  [[noreturn]] void fail_unknown_key(const std::vector<std::string>& keys,
                                     std::string_view otherwise) const;

 private:
  friend class JsonTreeBuilder;

  const std::string* path_ = nullptr;
  const JsonNode* parent_ = nullptr;
  size_t index_ = 0;  // in parent_
  std::string key_;
  TextPlace key_place_;
  JsonToken token_;
  std::shared_ptr<const nlohmann::json> value_;  // never null; here its type may be unknown
  std::vector<const JsonNode*> items_;
};

}  // namespace hybrid
