#pragma once
// Text to token ids and back: byte-level BPE as GGUF files carry it ("tokenizer.ggml.model" =
// gpt2).

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gguf_metadata.h"

namespace hybrid {

using TokenId = int32_t;

class Tokenizer {
 public:
  /// Reads tokenizer.ggml.{model,pre,tokens,token_type,merges,bos_token_id,eos_token_id,eot...,
  /// add_bos_token,...}. Throws Error naming the key: another tokenizer model, an unknown
  /// pre-tokenizer (lists the known ones), sizes that disagree, ids out of range, malformed merges.
  explicit Tokenizer(const GgufMetadata& metadata);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// User-defined tokens (format type 4) written in a text are always recognised, as the formats
  /// have it; control tokens (type 3, and what is spelled like one, <|...|>) and the unknown token
  /// only with `parse_special`. Without it no text gives a control token, whatever its pieces and
  /// merges.
  struct EncodeOptions {
    bool add_bos = false;        // put the BOS token first (callers pass wants_bos() for a prompt)
    bool parse_special = false;  // recognise control tokens written out in the text
  };
  /// Throws Error where the text is not valid UTF-8 (says at which byte). The empty text is no
  /// tokens.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const;
  std::vector<TokenId> encode(std::string_view text) const { return encode(text, EncodeOptions{}); }

  /// The bytes a token stands for; may be part of a UTF-8 character. Control tokens give their text
  /// where `render_special`, else nothing. Throws for an id out of range.
  std::string piece(TokenId id, bool render_special = false) const;
  std::string decode(std::span<const TokenId> ids, bool render_special = false) const;

  int32_t n_vocab() const;
  TokenId bos() const;     // -1 where there is none
  TokenId eos() const;     // -1 where there is none
  bool wants_bos() const;  // tokenizer.ggml.add_bos_token, else the model kind's default
  /// Ends generation: eos, eot, eom, and the well-known end tokens by their text.
  bool is_end_of_generation(TokenId id) const;
  bool is_control(TokenId id) const;
  /// The id of the token that is exactly this text (as in the vocabulary), or -1.
  TokenId find_token(std::string_view text) const;
  const std::string& pre_tokenizer() const;  // its name

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Joins streamed pieces into well-formed UTF-8: holds back the beginning of a character until it
/// is complete; bytes that can never become one are replaced by U+FFFD.
class Utf8Stream {
 public:
  /// What can be shown now.
  std::string push(std::string_view bytes);
  /// What is left at the end.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace hybrid
