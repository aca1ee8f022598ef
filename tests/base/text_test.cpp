#include "base/text.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "base/units.h"
#include "base/utf8.h"

using namespace hybrid;

TEST_CASE("UTF-8 is checked as strictly as Unicode asks") {
  CHECK(find_invalid_utf8("plain, gr\xc3\xbc\xc3\x9f, \xf0\x9f\xa6\x99") == std::string::npos);
  CHECK(find_invalid_utf8("a\xc0\x80") == 1);         // overlong
  CHECK(find_invalid_utf8("ab\xed\xa0\x80") == 2);    // surrogate
  CHECK(find_invalid_utf8("\xf4\x90\x80\x80") == 0);  // past U+10FFFF
  CHECK(find_invalid_utf8("\xe2\x82") == 0);          // cut short
  CHECK(find_invalid_utf8("\x80") == 0);
}

TEST_CASE("an incomplete tail is what may still become a character") {
  CHECK(incomplete_utf8_tail("a") == 0);
  CHECK(incomplete_utf8_tail("a\xf0\x9f\xa6") == 3);
  CHECK(incomplete_utf8_tail("a\xe2\x82") == 2);
  CHECK(incomplete_utf8_tail("a\xc3") == 1);
  CHECK(incomplete_utf8_tail("\xe2\x82\xac") == 0);
  CHECK(incomplete_utf8_tail("\xe0\x80") == 0);  // can never become one
  CHECK(incomplete_utf8_tail("") == 0);
}

TEST_CASE("every code point goes to UTF-8 and back") {
  for (char32_t code = 1; code <= 0x10ffff; code += code < 0x3000 ? 1 : 97) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    std::string text;
    append_utf8(text, code);
    const Utf8Char c = decode_utf8(text);
    REQUIRE(c.valid);
    REQUIRE(c.length == text.size());
    REQUIRE(c.code_point == code);
  }
}

TEST_CASE("printable makes one line of anything") {
  CHECK(printable("blk.0") == "blk.0");
  CHECK(printable("a\nb\xff") == "a\\x0ab\\xff");
  CHECK(printable("a\xc2\x9b"
                  "2J\xe2\x80\xae") == "a\\xc2\\x9b2J\\xe2\\x80\\xae");
  CHECK(printable(std::string(100, 'x'), 10) == "xxxxxxxxxx...");
}

TEST_CASE("the nearest name is near") {
  CHECK(nearest_name("--tempp", {"--temp", "--top-p"}) == "--temp");
  CHECK(nearest_name("tmep", {"temp", "mla"}) == "temp");  // one swap
  CHECK(nearest_name("gpu", {"cpu", "gpus"}) == "gpus");   // as near, but with the first letter
  CHECK(nearest_name("--colour", {"--temp", "--top-p"}).empty());
}

TEST_CASE("sizes are in powers of 1024") {
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(3u << 20) == "3.0 MiB");
  CHECK(format_bytes(5ull << 30) == "5.00 GiB");
}
