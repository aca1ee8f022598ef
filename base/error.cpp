#include "base/error.h"

#include "base/utf8.h"

namespace hybrid {
namespace {

/// Control characters, and those that reorder the text around them: a terminal would obey both.
bool is_dangerous(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f ||
         (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    if (out.size() >= max_bytes) return out + "...";
    const Utf8Char c = decode_utf8(text.substr(at));
    if (!c.valid || is_dangerous(c.code_point)) {
      for (size_t i = 0; i < c.length; ++i) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at + i]));
      }
      at += c.length;
    } else {
      out += text.substr(at, c.length);
      at += c.length;
    }
  }
  return out;
}

namespace internal {

void check_failed(const char* expression, const char* file, int line) {
  throw Error(fmt::format("internal error: {} does not hold at {}:{}; please report this",
                          expression, file, line));
}

void throw_error(fmt::string_view format, fmt::format_args args) {
  throw Error(fmt::vformat(format, args));
}

void throw_usage_error(fmt::string_view format, fmt::format_args args) {
  throw UsageError(fmt::vformat(format, args));
}

}  // namespace internal
}  // namespace hybrid
