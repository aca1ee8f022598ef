#include "base/error.h"

#include "base/utf8.h"

namespace hybrid {

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    if (out.size() >= max_bytes) return out + "...";
    const Utf8Char c = decode_utf8(text.substr(at));
    const auto byte = static_cast<unsigned char>(text[at]);
    if (!c.valid || byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
      at += 1;
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

}  // namespace internal
}  // namespace hybrid
