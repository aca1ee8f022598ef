#pragma once
// Conversations to token ids. The templates are a known few, told apart by the markers in the file's
// "tokenizer.chat_template"; no template language is interpreted. What a role says is encoded without
// special tokens, so text can never forge a turn.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/tokenizer.h"

namespace hybrid {

enum class ChatRole { system, user, assistant };

struct ChatMessage {
  ChatRole role;
  std::string content;
};

enum class ChatFormat {
  deepseek2,  // "User: ..\n\nAssistant: ..<eos>"
  deepseek3,  // V3, R1: <|User|>..<|Assistant|>..<|end of sentence|> with the full-width bars
  chatml,     // <|im_start|>user\n..<|im_end|>\n
};

std::string_view name_of(ChatFormat format);

class ChatTemplate {
 public:
  /// From tokenizer.chat_template. Throws Error where there is none, or it is none of the known ones
  /// (says which are known and that `--chat-template NAME` chooses one).
  static ChatTemplate from_metadata(const GgufMetadata& metadata);
  static ChatTemplate by_name(std::string_view name);

  ChatFormat format() const { return format_; }

  /// The whole conversation, ready for the assistant's next word: BOS where the tokenizer wants one,
  /// then every message; `add_generation_prompt` opens the assistant's turn.
  std::vector<TokenId> encode(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                              bool add_generation_prompt) const;

  /// The same as text, special tokens written out (for tests and logs).
  std::string render(std::span<const ChatMessage> messages, std::string_view bos,
                     std::string_view eos, bool add_generation_prompt) const;

 private:
  ChatFormat format_ = ChatFormat::deepseek3;
  bool opens_thinking_ = false;  // the template's generation prompt ends with "<think>\n"
};

}  // namespace hybrid
