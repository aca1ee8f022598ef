#pragma once
// A JSON file with comments (// and /* */) in which every value knows its place.

#include <deque>
#include <string>
#include <string_view>

#include "placement/json_node.h"

namespace hybrid {

class JsonFile {
 public:
  static constexpr size_t kMaxBytes = 1 << 20;
  static constexpr size_t kMaxDepth = 64;  // of arrays and objects in one another

  /// what: "the config file". Throws Error naming file, line and column where the text is not JSON,
  /// too large or nested too deeply, or where an object has a key twice.
  JsonFile(const std::string& path, std::string_view what);
  JsonFile(const JsonFile&) = delete;
  JsonFile& operator=(const JsonFile&) = delete;

  const JsonNode& root() const { return nodes_.front(); }

 private:
  std::string path_;  // printable
  std::string text_;
  std::deque<JsonNode> nodes_;  // they point to one another
};

}  // namespace hybrid
