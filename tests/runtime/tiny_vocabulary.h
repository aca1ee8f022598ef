#pragma once
// A vocabulary small enough to reason about: all bytes, a few merges, a few special tokens.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/byte_level.h"
#include "tensor/gguf_metadata.h"

namespace hybrid::test {

struct TinyVocabulary {
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  std::vector<std::string> merges;
  std::vector<std::pair<std::string, uint64_t>> numbers;  // further keys, after "tokenizer.ggml."

  /// Token i is byte i, for i below 256.
  TinyVocabulary() {
    for (int byte = 0; byte < 256; ++byte) add(byte_character(static_cast<uint8_t>(byte)));
  }

  int32_t add(std::string_view text, int64_t type = 1) {
    tokens.emplace_back(text);
    types.push_back(type);
    return static_cast<int32_t>(tokens.size()) - 1;
  }

  /// A merge of two spellings, and the token it makes.
  int32_t merge(const std::string& left, const std::string& right) {
    merges.push_back(left + " " + right);
    return add(left + right);
  }

  GgufMetadata metadata() const {
    GgufMetadata out("tiny.gguf");
    const auto strings = [](const std::vector<std::string>& values) {
      return GgufValue{GgufType::array, GgufArray{GgufType::string, values}};
    };
    out.add("tokenizer.ggml.model", {GgufType::string, model});
    out.add("tokenizer.ggml.pre", {GgufType::string, pre});
    out.add("tokenizer.ggml.tokens", strings(tokens));
    out.add("tokenizer.ggml.token_type", {GgufType::array, GgufArray{GgufType::i32, types}});
    out.add("tokenizer.ggml.merges", strings(merges));
    for (const auto& [key, value] : numbers) {
      out.add("tokenizer.ggml." + key, {GgufType::u32, value});
    }
    return out;
  }
};

}  // namespace hybrid::test
