#include "runtime/byte_level.h"

#include <array>

#include "base/utf8.h"

namespace hybrid {
namespace {

constexpr char32_t kFirstShifted = 0x100;

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, 0x144> bytes;  // by code point

  Alphabet() {
    bytes.fill(-1);
    char32_t shifted = kFirstShifted;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t code = stands_for_itself(byte) ? static_cast<char32_t>(byte) : shifted++;
      append_utf8(characters[byte], code);
      bytes[code] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_character(uint8_t byte) { return alphabet().characters[byte]; }

int byte_of_character(char32_t character) {
  const auto& bytes = alphabet().bytes;
  return character < bytes.size() ? bytes[character] : -1;
}

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  for (char byte : bytes) out += byte_character(static_cast<uint8_t>(byte));
  return out;
}

std::string from_byte_level(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    const int byte = c.valid ? byte_of_character(c.code_point) : -1;
    if (byte >= 0) {
      out += static_cast<char>(byte);
    } else {
      out += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
  return out;
}

}  // namespace hybrid
