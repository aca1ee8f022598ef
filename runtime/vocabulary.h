#pragma once
// The tokens of a GGUF file: their texts, their kinds, and finding one by its text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gguf_metadata.h"

namespace hybrid {

/// The numbers are the format's ("tokenizer.ggml.token_type").
enum class TokenKind : uint8_t {
  undefined = 0,
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// The ids of the tokens with a role; -1 where the file names none.
struct SpecialIds {
  int32_t bos = -1, eos = -1, eot = -1, eom = -1, unknown = -1;
};

class Vocabulary {
 public:
  /// Reads tokenizer.ggml.{tokens,token_type,{bos,eos,eot,eom,unknown}_token_id}. Throws Error
  /// naming the key where it is missing, has another length, or holds an id out of range. Without
  /// token_type every token is normal. A token that is spelled like a control token, <|...|> with
  /// plain or full-width bars, but is user-defined or has one of the roles above, counts as
  /// control: older converters wrote such types, and what a chat message says must not become such
  /// a token.
  explicit Vocabulary(const GgufMetadata& metadata);

  int32_t size() const { return static_cast<int32_t>(begins_.size()) - 1; }
  std::string_view text(int32_t id) const {
    return std::string_view(texts_).substr(begins_[id], begins_[id + 1] - begins_[id]);
  }
  TokenKind kind(int32_t id) const { return kinds_[id]; }
  const SpecialIds& special_ids() const { return special_ids_; }

  /// The token with exactly this text (the first one where there are several), or -1.
  int32_t find(std::string_view text) const;
  /// The same, but only a token that ordinary text may become: no control, unknown, unused or
  /// user-defined one (those are spelled in plain text, not in the byte alphabet).
  int32_t find_ordinary(std::string_view text) const;

 private:
  void read_texts(const GgufMetadata& metadata);
  void read_special_ids(const GgufMetadata& metadata);
  void read_kinds(const GgufMetadata& metadata);
  void index_texts();

  std::string texts_;             // one after another: half the cost of a string each
  std::vector<uint32_t> begins_;  // n + 1 offsets
  std::vector<TokenKind> kinds_;
  SpecialIds special_ids_;
  std::vector<int32_t> slots_;  // open addressing; a power of two, at most half full; -1 is free
};

}  // namespace hybrid
