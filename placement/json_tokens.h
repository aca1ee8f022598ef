#pragma once
// Where the keys and values of a JSON text stand: what nlohmann/json does not keep.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace hybrid {

/// Both count from 1. Columns count characters; a byte order mark is none.
struct TextPlace {
  uint32_t line = 1, column = 1;

  bool operator==(const TextPlace&) const = default;
};

/// The place of text[offset], or of the end.
TextPlace place_of(std::string_view text, size_t offset);

/// A key or a value.
struct JsonToken {
  std::string_view text;  // as it is written; of an object or an array the opening bracket
  size_t offset = 0;
  TextPlace place;
};

/// All keys and values in their order, comments (// and /* */) left out. Of a text that is not JSON
/// those in front of the first error are right, and what follows is of no use.
std::vector<JsonToken> json_tokens(std::string_view text);

}  // namespace hybrid
