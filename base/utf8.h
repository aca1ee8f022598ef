#pragma once
// UTF-8, strictly as in Unicode 15 table 3-7: no overlong forms, no surrogates, at most U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hybrid {

struct Utf8Char {
  char32_t code_point;  // U+FFFD when invalid
  size_t length;        // bytes to advance, at least 1 (for a non-empty text)
  bool valid;
};

/// The first character of a non-empty text. An ill-formed sequence is one invalid byte long.
Utf8Char decode_utf8(std::string_view text);

/// Appends the UTF-8 form of a code point (which must be a scalar value).
void append_utf8(std::string& out, char32_t code_point);

/// Offset of the first ill-formed byte, or npos where the text is valid.
size_t find_invalid_utf8(std::string_view text);

/// How many bytes at the end of `text` begin a well-formed character that is not complete yet
/// (0-3).
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace hybrid
