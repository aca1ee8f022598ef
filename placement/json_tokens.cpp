#include "placement/json_tokens.h"

#include <algorithm>

namespace hybrid {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kFiller = " \t\r\n,:]}";

/// Goes through a text once, from place to place.
class PlaceCursor {
 public:
  explicit PlaceCursor(std::string_view text)
      : text_(text), offset_(text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0) {}

  TextPlace advance_to(size_t offset) {
    for (; offset_ < std::min(offset, text_.size()); ++offset_) {
      const auto byte = static_cast<unsigned char>(text_[offset_]);
      if (byte == '\n') {
        ++place_.line;
        place_.column = 1;
      } else if ((byte & 0xc0) != 0x80) {  // one per character of UTF-8
        ++place_.column;
      }
    }
    return place_;
  }

 private:
  std::string_view text_;
  size_t offset_;
  TextPlace place_;
};

/// The offset behind the comment that begins at `at`.
size_t comment_end(std::string_view text, size_t at) {
  const bool is_block = text.substr(at, 2) == "/*";
  const size_t end = is_block ? text.find("*/", at + 2) : text.find_first_of("\r\n", at);
  if (end == std::string_view::npos) return text.size();
  return is_block ? end + 2 : end;
}

/// The offset behind the string that begins at `at`.
size_t string_end(std::string_view text, size_t at) {
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '"') return i + 1;
    if (text[i] == '\\') ++i;
  }
  return text.size();
}

size_t token_end(std::string_view text, size_t at) {
  if (text[at] == '"') return string_end(text, at);
  if (text[at] == '[' || text[at] == '{') return at + 1;
  return std::min(text.find_first_of(" \t\r\n,:[]{}\"/", at + 1), text.size());
}

}  // namespace

TextPlace place_of(std::string_view text, size_t offset) {
  return PlaceCursor(text).advance_to(offset);
}

std::vector<JsonToken> json_tokens(std::string_view text) {
  std::vector<JsonToken> tokens;
  PlaceCursor cursor(text);
  for (size_t at = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;;) {
    at = text.find_first_not_of(kFiller, at);
    if (at == std::string_view::npos) return tokens;
    if (text[at] == '/') {
      at = comment_end(text, at);
      continue;
    }
    const size_t end = token_end(text, at);
    tokens.push_back({text.substr(at, end - at), at, cursor.advance_to(at)});
    at = end;
  }
}

}  // namespace hybrid
