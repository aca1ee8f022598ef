#include "base/utf8.h"

#include <algorithm>

namespace hybrid {
namespace {

/// What a lead byte promises: the sequence's length, and the range its second byte must lie in.
struct Lead {
  size_t length;  // 0: cannot start a character
  uint8_t second_min, second_max;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte >= 0xc2 && byte <= 0xdf) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte >= 0xf1 && byte <= 0xf3) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

/// True where the bytes after the lead, as far as they exist, fit it.
bool continues(std::string_view text, const Lead& lead) {
  for (size_t i = 1; i < std::min(lead.length, text.size()); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.second_min : 0x80;
    const uint8_t high = i == 1 ? lead.second_max : 0xbf;
    if (byte < low || byte > high) return false;
  }
  return true;
}

}  // namespace

Utf8Char decode_utf8(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const Lead lead = lead_of(first);
  if (lead.length == 0 || text.size() < lead.length || !continues(text, lead)) {
    return {0xfffd, 1, false};
  }
  if (lead.length == 1) return {first, 1, true};
  char32_t code = first & (0x7f >> lead.length);
  for (size_t i = 1; i < lead.length; ++i)
    code = (code << 6) | (static_cast<uint8_t>(text[i]) & 0x3f);
  return {code, lead.length, true};
}

void append_utf8(std::string& out, char32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

size_t find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (!c.valid) return at;
    at += c.length;
  }
  return std::string_view::npos;
}

size_t incomplete_utf8_tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const Lead lead = lead_of(static_cast<uint8_t>(tail[0]));
    if (lead.length > back && continues(tail, lead)) return back;
  }
  return 0;
}

}  // namespace hybrid
