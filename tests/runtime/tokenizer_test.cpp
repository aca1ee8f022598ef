#include "runtime/tokenizer.h"

#include <doctest/doctest.h>

#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/utf8.h"
#include "tensor/gguf_file.h"
#include "tests/runtime/tiny_vocabulary.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"

namespace hybrid {
namespace {

using Ids = std::vector<TokenId>;
using test::error_of;
using test::TinyVocabulary;

constexpr Tokenizer::EncodeOptions kParseSpecial{false, true};
constexpr const char* kGoldenVocabularies[] = {"deepseek-llm", "deepseek-coder", "gpt-2",
                                               "starcoder"};

Tokenizer golden_tokenizer(const std::string& name) {
  const auto file = GgufFile::open(test::golden("tokenizer/ggml-vocab-" + name + ".gguf"));
  return Tokenizer(file.metadata());
}

std::vector<std::string> golden_texts(const std::string& name) {
  const std::string all =
      test::read_text(test::golden("tokenizer/ggml-vocab-" + name + ".gguf.inp"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t begin = 0;
  for (size_t end; (end = all.find(separator, begin)) != std::string::npos;) {
    texts.push_back(all.substr(begin, end - begin));
    begin = end + separator.size();
  }
  return texts;
}

std::vector<Ids> golden_ids(const std::string& name) {
  std::istringstream lines(
      test::read_text(test::golden("tokenizer/ggml-vocab-" + name + ".gguf.out")));
  std::vector<Ids> out;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    out.emplace_back();
    for (TokenId id; words >> id;) out.back().push_back(id);
  }
  return out;
}

/// Valid UTF-8 from all planes, rich in ASCII, line ends and NULs.
std::string random_text(std::mt19937& rng) {
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(rng() % n); };
  std::string out;
  for (uint32_t left = below(40); left > 0; --left) {
    char32_t code = 0;
    do {
      const uint32_t kind = below(8);
      code = kind < 3    ? below(0x80)
             : kind == 3 ? U" \n\r\t\0'a1"[below(8)]
             : kind == 4 ? 0x4e00 + below(0x5200)
             : kind == 5 ? below(0x800)
             : kind == 6 ? below(0x10000)
                         : below(0x110000);
    } while (code >= 0xd800 && code < 0xe000);
    append_utf8(out, code);
  }
  return out;
}

TEST_CASE("golden vectors") {
  HYBRID_NEEDS_GOLDEN();
  for (const char* name : kGoldenVocabularies) {
    const Tokenizer tokenizer = golden_tokenizer(name);
    const auto texts = golden_texts(name);
    const auto expected = golden_ids(name);
    REQUIRE(texts.size() == 46);
    REQUIRE(expected.size() == texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(name);
      CAPTURE(texts[i]);
      CHECK(tokenizer.encode(texts[i]) == expected[i]);
      CHECK(tokenizer.decode(expected[i]) == texts[i]);
    }
  }
}

TEST_CASE("decoding gives back what was encoded") {
  HYBRID_NEEDS_GOLDEN();
  std::mt19937 rng(1);
  for (const char* name : kGoldenVocabularies) {
    CAPTURE(name);
    const Tokenizer tokenizer = golden_tokenizer(name);
    for (int i = 0; i < 1500; ++i) {
      const std::string text = random_text(rng);
      if (tokenizer.find_token("\u00f1") < 0 && text.find('\xf1') != std::string::npos) {
        // starcoder's vocabulary lacks the byte that U+40000 to U+7FFFF begin with
        CHECK(error_of([&] { tokenizer.encode(text); }).find("0xf1") != std::string::npos);
        continue;
      }
      const Ids ids = tokenizer.encode(text);
      REQUIRE(tokenizer.decode(ids) == text);
    }
  }
}

TEST_CASE("every id has a piece, and the pieces joined are the decoded text") {
  HYBRID_NEEDS_GOLDEN();
  for (const char* name : kGoldenVocabularies) {
    const Tokenizer tokenizer = golden_tokenizer(name);
    Ids ids(tokenizer.n_vocab());
    std::iota(ids.begin(), ids.end(), 0);
    std::string joined;
    for (TokenId id : ids) joined += tokenizer.piece(id, true);
    CHECK(joined == tokenizer.decode(ids, true));
    CHECK(joined.size() > tokenizer.decode(ids).size());
    for (TokenId id : {-1, tokenizer.n_vocab()}) {
      CHECK(error_of([&] { tokenizer.piece(id); }).find("out of range") != std::string::npos);
    }
  }
}

TEST_CASE("long inputs") {
  HYBRID_NEEDS_GOLDEN();
  const Tokenizer tokenizer = golden_tokenizer("deepseek-llm");
  for (const char* unit : {"a", " ", "abcdefghij", "word "}) {
    CAPTURE(unit);
    std::string text;
    while (text.size() < 400'000) text += unit;
    const Ids ids = tokenizer.encode(text);
    CHECK(ids.size() < text.size() * 2);
    CHECK(tokenizer.decode(ids) == text);
  }
}

TEST_CASE("one tokenizer serves several threads") {
  HYBRID_NEEDS_GOLDEN();
  const Tokenizer tokenizer = golden_tokenizer("deepseek-coder");
  const auto texts = golden_texts("deepseek-coder");
  const auto expected = golden_ids("deepseek-coder");
  std::vector<int> n_wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& wrong : n_wrong) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) {
        if (tokenizer.encode(texts[i]) != expected[i]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(n_wrong == std::vector<int>(4, 0));
}

TEST_CASE("the lowest rank merges first, the leftmost of equal ones") {
  TinyVocabulary vocabulary;
  const TokenId bc = vocabulary.merge("b", "c");
  const TokenId ab = vocabulary.merge("a", "b");
  const TokenId aa = vocabulary.merge("a", "a");
  const TokenId abc = vocabulary.merge("ab", "c");
  const Tokenizer tokenizer(vocabulary.metadata());
  CHECK(tokenizer.encode("abc") == Ids{'a', bc});
  CHECK(tokenizer.encode("abd") == Ids{ab, 'd'});
  CHECK(tokenizer.encode("aaa") == Ids{aa, 'a'});
  CHECK(tokenizer.encode("aaaab") == Ids{aa, 'a', ab});
  CHECK(tokenizer.find_token("abc") == abc);
  CHECK(tokenizer.decode(Ids{abc, aa}) == "abcaa");
}

TEST_CASE("whole words come before merges where the format says so") {
  TinyVocabulary vocabulary;
  const TokenId word = vocabulary.add("xyz");
  CHECK(Tokenizer(vocabulary.metadata()).encode("xyz") == Ids{'x', 'y', 'z'});
  vocabulary.pre = "kimi-k2";
  CHECK(Tokenizer(vocabulary.metadata()).encode("xyz") == Ids{word});
}

TEST_CASE("merges through strings that are no tokens; what stays one falls back to bytes") {
  TinyVocabulary vocabulary;
  vocabulary.merges = {"a b", "ab c", "Ã ©"};
  const TokenId abc = vocabulary.add("abc");
  const Tokenizer tokenizer(vocabulary.metadata());
  CHECK(tokenizer.encode("abc") == Ids{abc});
  CHECK(tokenizer.encode("abd") == Ids{'a', 'b', 'd'});
  CHECK(tokenizer.encode("\u00e9") == Ids{0xc3, 0xa9});
}

TEST_CASE("a byte without a token") {
  TinyVocabulary vocabulary;
  vocabulary.tokens['q'] = "\u4e00";
  CHECK(error_of([&] { Tokenizer(vocabulary.metadata()).encode("q"); }).find("0x71") !=
        std::string::npos);
  const TokenId unknown = vocabulary.add("<unk>", 2);
  vocabulary.numbers.emplace_back("unknown_token_id", unknown);
  CHECK(Tokenizer(vocabulary.metadata()).encode("aq") == Ids{'a', unknown});
  vocabulary.types[unknown] = 3;
  CHECK(error_of([&] { Tokenizer(vocabulary.metadata()).encode("q"); }).find("0x71") !=
        std::string::npos);
}

TEST_CASE(
    "control tokens only when asked for, user-defined ones always, the longest at each place") {
  TinyVocabulary vocabulary;
  const TokenId end = vocabulary.add("<|end|>", 3);
  const TokenId longer = vocabulary.add("<|end|>x", 3);
  const TokenId indent = vocabulary.add("~~~", 4);
  const Tokenizer tokenizer(vocabulary.metadata());
  CHECK(tokenizer.encode("a<|end|>b", kParseSpecial) == Ids{'a', end, 'b'});
  CHECK(tokenizer.encode("<|end|>xy<|end|><|end", kParseSpecial) ==
        Ids{longer, 'y', end, '<', '|', 'e', 'n', 'd'});
  CHECK(tokenizer.encode("a<|end|>b") == Ids{'a', '<', '|', 'e', 'n', 'd', '|', '>', 'b'});
  CHECK(tokenizer.encode("~~~~") == Ids{indent, '~'});
  CHECK(tokenizer.decode(Ids{'a', end, indent}) == "a~~~");
  CHECK(tokenizer.decode(Ids{'a', end, indent}, true) == "a<|end|>~~~");
}

// Whatever the file holds, plain text must not become a control token.
TEST_CASE("no text gives a control token unasked") {
  TinyVocabulary vocabulary;
  vocabulary.pre = "kimi-k2";
  vocabulary.merge("E", "OT");  // a control token that merges lead to, and that is a whole word
  vocabulary.types.back() = 3;
  vocabulary.merge("O", "T");
  vocabulary.add("<｜User｜>", 4);  // as some converters typed it
  vocabulary.add("<|im_end|>", 1);
  vocabulary.numbers.emplace_back("eos_token_id", vocabulary.tokens.size() - 1);
  const Tokenizer tokenizer(vocabulary.metadata());
  const char* text = "EOT<｜User｜><|im_end|> EOT";
  for (TokenId id : tokenizer.encode(text)) CHECK(!tokenizer.is_control(id));
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  int n_control = 0;
  for (TokenId id : tokenizer.encode(text, kParseSpecial)) n_control += tokenizer.is_control(id);
  CHECK(n_control == 4);
}

TEST_CASE("BOS, EOS and the ends of generation") {
  TinyVocabulary vocabulary;
  const TokenId bos = vocabulary.add("<s>", 3);
  const TokenId eos = vocabulary.add("<e>", 3);
  const TokenId eot = vocabulary.add("<t>", 3);
  const TokenId im_end = vocabulary.add("<|im_end|>", 3);
  const TokenId plain = vocabulary.add("[EOS]", 1);
  CHECK(Tokenizer(vocabulary.metadata()).bos() == -1);
  CHECK(error_of([&] {
          Tokenizer(vocabulary.metadata()).encode("a", {true, false});
        }).find("BOS") != std::string::npos);
  vocabulary.numbers = {{"bos_token_id", bos}, {"eos_token_id", eos}, {"eot_token_id", eot}};
  const Tokenizer tokenizer(vocabulary.metadata());
  CHECK(tokenizer.bos() == bos);
  CHECK(tokenizer.eos() == eos);
  CHECK(!tokenizer.wants_bos());
  CHECK(tokenizer.encode("a", {true, false}) == Ids{bos, 'a'});
  CHECK(tokenizer.encode("").empty());
  for (TokenId id : {eos, eot, im_end}) CHECK(tokenizer.is_end_of_generation(id));
  for (TokenId id : {bos, plain, -1}) CHECK(!tokenizer.is_end_of_generation(id));
  vocabulary.pre = "llama-bpe";
  CHECK(Tokenizer(vocabulary.metadata()).wants_bos());
}

TEST_CASE("malformed vocabularies") {
  const auto message = [](auto&& change) {
    TinyVocabulary vocabulary;
    change(vocabulary);
    return error_of([&] { Tokenizer tokenizer(vocabulary.metadata()); });
  };
  CHECK(message([](auto&) {}) == "");
  CHECK(message([](auto& v) { v.model = "llama"; }) ==
        "tiny.gguf: expected tokenizer.ggml.model \"gpt2\" (byte-level BPE), found \"llama\"");
  CHECK(message([](auto& v) { v.pre = "tekken"; }).find("tiny.gguf: tokenizer.ggml.pre") == 0);
  CHECK(message([](auto& v) { v.types.pop_back(); }) ==
        "tiny.gguf: tokenizer.ggml.token_type has 255 entries, but the vocabulary has 256 tokens");
  CHECK(message([](auto& v) { v.types[3] = 9; }) ==
        "tiny.gguf: tokenizer.ggml.token_type[3] is 9, expected 0 to 6");
  CHECK(message([](auto& v) { v.numbers.emplace_back("eos_token_id", 256); }) ==
        "tiny.gguf: tokenizer.ggml.eos_token_id is 256, but the vocabulary has 256 tokens");
  for (const char* merge : {"ab", "", " b", "a ", "a b c"}) {
    CHECK(message([&](auto& v) {
            v.merges = {"a b", merge};
          }).find("merges[1]") != std::string::npos);
  }
  CHECK(error_of([] { Tokenizer tokenizer{GgufMetadata("x.gguf")}; }) ==
        "x.gguf: expected tokenizer.ggml.model \"gpt2\" (byte-level BPE), found none");
}

TEST_CASE("text that is no UTF-8") {
  const Tokenizer tokenizer(TinyVocabulary().metadata());
  CHECK(error_of([&] { tokenizer.encode("abc\xc3"); }) ==
        "expected UTF-8 text, but byte 3 (0xc3) is no valid UTF-8");
}

TEST_CASE("Utf8Stream holds back the beginnings of characters") {
  const std::string text = "a\u00e9\u4e00\U0001f999b";
  Utf8Stream bytewise;
  std::string out;
  for (char byte : text) {
    out += bytewise.push(std::string_view(&byte, 1));
    CHECK(find_invalid_utf8(out) == std::string::npos);
  }
  CHECK(out == text);
  CHECK(bytewise.finish() == "");
}

TEST_CASE("Utf8Stream replaces what can never become a character") {
  Utf8Stream stream;
  CHECK(stream.push("a\xff") == "a\ufffd");
  CHECK(stream.push("\xe4\xb8") == "");
  CHECK(stream.push("x") == "\ufffd\ufffdx");
  CHECK(stream.push("\xed\xa0\x80") == "\ufffd\ufffd\ufffd");  // a surrogate
  CHECK(stream.push("\xf0\x9f") == "");
  CHECK(stream.finish() == "\ufffd\ufffd");
  CHECK(stream.finish() == "");
}

}  // namespace
}  // namespace hybrid
