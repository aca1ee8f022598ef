#pragma once
// GPT-2's byte alphabet: each of the 256 bytes has a printable character, and vocabularies spell
// their tokens in these. Bytes 0x21..0x7E, 0xA1..0xAC, 0xAE..0xFF stand for the character of the
// same number; the other 68, in order, for U+0100..U+0143 (so a space is U+0120).

#include <cstdint>
#include <string>
#include <string_view>

namespace hybrid {

/// The character of a byte, as UTF-8. Stays valid for ever.
std::string_view byte_character(uint8_t byte);

/// The byte whose character this is, or -1 for a character outside the alphabet.
int byte_of_character(char32_t character);

/// Spells bytes in the alphabet.
std::string to_byte_level(std::string_view bytes);

/// The bytes that a spelling stands for; what is outside the alphabet stays as it is.
std::string from_byte_level(std::string_view text);

}  // namespace hybrid
