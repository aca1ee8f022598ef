#include "runtime/pre_tokenizer.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/expect_error.h"

namespace hybrid {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const char* name, std::string_view text) {
  const PreTokenizer pre_tokenizer = PreTokenizer::by_name(name);
  const std::vector<std::string_view> pieces = pre_tokenizer.split(text);
  return Pieces(pieces.begin(), pieces.end());
}

std::string repeated(std::string_view text, size_t n) {
  std::string out;
  while (n-- > 0) out += text;
  return out;
}

TEST_CASE("gpt-2: words take the space before them, contractions and white space stand alone") {
  CHECK(split("gpt-2", "Hello  world, it's 2024!") ==
        Pieces{"Hello", " ", " world", ",", " it", "'s", " 2024", "!"});
  CHECK(split("gpt-2", "a\tb \n c\n\n") == Pieces{"a", "\t", "b", " \n", " c", "\n\n"});
  CHECK(split("gpt-2", "IT'S") == Pieces{"IT", "'", "S"});
}

TEST_CASE("starcoder: every digit by itself") {
  CHECK(split("starcoder", "x 123y") == Pieces{"x", " ", "1", "2", "3", "y"});
}

TEST_CASE("qwen2: single digits, contractions in any case, a letter takes any one sign before it") {
  CHECK(split("qwen2", "We'LL pay $12 (now)\r\n") ==
        Pieces{"We", "'LL", " pay", " $", "1", "2", " (", "now", ")\r\n"});
  CHECK(split("qwen2", "\tif x:\n    y\n") == Pieces{"\tif", " x", ":\n", "   ", " y", "\n"});
  CHECK(split("deepseek-r1-qwen", "12") == Pieces{"1", "2"});
}

TEST_CASE("llama-bpe: digits in threes") {
  CHECK(split("llama-bpe", "12345 it'Ve") == Pieces{"123", "45", " it", "'Ve"});
  CHECK(split("llama3", "1234") == Pieces{"123", "4"});
}

TEST_CASE("deepseek-v3: digits in threes, Han and kana in runs, marks stay with letters") {
  CHECK(split("deepseek-v3", "Hello world 12345!") ==
        Pieces{"Hello", " world", " ", "123", "45", "!"});
  CHECK(split("deepseek-v3", "foo中文カナbar") == Pieces{"foo", "中文カナ", "bar"});
  CHECK(split("deepseek-v3", "हिन्दी  x\n\n y") == Pieces{"हिन्दी", " ", " x", "\n\n", " y"});
  CHECK(split("deepseek-v3", ".com->x()\n") == Pieces{".com", "->", "x", "()\n"});
  // Neither letters, marks, signs nor space: what nothing matches is one piece.
  CHECK(split("deepseek-v3", "a\x01\x02\x03") == Pieces{"a", "\x01\x02\x03"});
}

// The second rule's signs are the range from ":" to "~", which holds the Latin letters too: a word
// falls apart where they meet others.
TEST_CASE("deepseek-llm: line ends stand alone, words of one alphabet stay whole") {
  CHECK(split("deepseek-llm", "Hello Wörld 123 中文!\r\n") ==
        Pieces{"Hello", " W", "ö", "rld", " ", "123", " ", "中文", "!", "\r", "\n"});
  CHECK(split("deepseek-llm", " нещо на") == Pieces{" нещо", " на"});
  CHECK(split("deepseek-llm", "a   b   ") == Pieces{"a", "  ", " b", "   "});
  CHECK(split("deepseek-llm", "a   中  ") == Pieces{"a", "   ", "中", "  "});
}

TEST_CASE("deepseek-coder: letters of all scripts, every digit by itself") {
  CHECK(split("deepseek-coder", "int a12 = f(x);\n") ==
        Pieces{"int", " a", "1", "2", " =", " f", "(", "x", ");", "\n"});
}

TEST_CASE("kimi-k2: Han apart from other letters, words split where case begins anew") {
  CHECK(split("kimi-k2", "camelCaseWord") == Pieces{"camel", "Case", "Word"});
  CHECK(split("kimi-k2", "It's中文Test 1234") == Pieces{"It's", "中文", "Test", " ", "123", "4"});
  CHECK(split("kimi-k2", "〇々HTTPServer") == Pieces{"〇々", "HTTPServer"});
}

TEST_CASE("default: signs apart, digits in threes") {
  CHECK(split("default", "a+b 12345") == Pieces{"a", "+", "b", " ", "123", "45"});
}

TEST_CASE("white space is Unicode's: U+180E is none, U+0085 is some") {
  for (const char* name : {"gpt-2", "qwen2", "llama-bpe", "deepseek-v3", "kimi-k2"}) {
    CAPTURE(name);
    CHECK(split(name, "\u0085\u0085\u0085x")[0] == "\u0085\u0085");
    CHECK(split(name, "\u180e\u180e!")[0].starts_with("\u180e\u180e"));
  }
}

TEST_CASE("the pieces of any text are the text") {
  const std::string text =
      "\n\n  Ünïcode\u0301 \u00a0\u3000 日本語カナ 한국어 🦙🇩🇪 'll'S "
      "\r\n\t123٤٥٦½ "
      "\x1f{}[]~`\\ "
      "\0 ";
  for (const char* name : {"deepseek-llm", "deepseek-coder", "deepseek-v3", "kimi-k2", "qwen2",
                           "llama-bpe", "gpt-2", "starcoder", "default"}) {
    CAPTURE(name);
    for (size_t begin = 0; begin < text.size(); ++begin) {
      if ((text[begin] & 0xc0) == 0x80) continue;  // within a character
      std::string joined;
      for (const std::string& piece : split(name, text.substr(begin))) {
        CHECK(!piece.empty());
        joined += piece;
      }
      CHECK(joined == text.substr(begin));
    }
    CHECK(split(name, "").empty());
  }
}

// Each would take hours if a pattern were tried anew from every position of a run, or fail if it
// took stack per character.
TEST_CASE("long runs of one character") {
  constexpr size_t kLength = 300'000;
  for (const char* name : {"deepseek-llm", "deepseek-coder", "deepseek-v3", "kimi-k2", "qwen2",
                           "llama-bpe", "gpt-2", "starcoder", "default"}) {
    for (const char* unit : {"a", "A", " ", "\n", "中", "!", "1", "\u0301", "'", "Aa", "\x01"}) {
      CAPTURE(name);
      CAPTURE(unit);
      const std::string text = repeated(unit, kLength) + "中";
      const PreTokenizer pre_tokenizer = PreTokenizer::by_name(name);
      size_t bytes = 0;
      for (std::string_view piece : pre_tokenizer.split(text)) bytes += piece.size();
      CHECK(bytes == text.size());
    }
  }
}

TEST_CASE("errors name what was found") {
  const std::string unknown = test::error_of([] { PreTokenizer::by_name("gpt-5"); });
  CHECK(unknown.find("\"gpt-5\"") != std::string::npos);
  CHECK(unknown.find("deepseek-v3") != std::string::npos);
  CHECK(test::error_of([] { split("qwen2", "ab\xff"); }) ==
        "expected UTF-8 text, but byte 2 (0xff) is no valid UTF-8");
}

}  // namespace
}  // namespace hybrid
