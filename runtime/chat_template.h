#pragma once
// Conversations to token ids. The templates are a known few, told apart by the markers in the
// file's "tokenizer.chat_template"; no template language is interpreted. What a role says is
// encoded without special tokens, so text can never forge a turn (the deepseek2 format has no turn
// tokens; there a text can still look like a turn, but never end one).

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
  deepseek2,     // "User: ..\n\nAssistant: ..<eos>"
  deepseek3,     // V2.5, V3, R1: <|User|>..<|Assistant|>..<|end of sentence|>, with full-width bars
  deepseek_v31,  // V3.1: the same, and every turn of the assistant opens with a closed thought
  chatml,        // <|im_start|>user\n..<|im_end|>\n
};

/// "deepseek2", "deepseek3", "deepseek-v3.1", "chatml".
std::string_view name_of(ChatFormat format);

class ChatTemplate {
 public:
  /// From tokenizer.chat_template. Throws Error where there is none, or it is none of the known
  /// ones (says which are known and that `--chat-template NAME` chooses one).
  static ChatTemplate from_metadata(const GgufMetadata& metadata);
  /// One of name_of's names, or "deepseek-r1": deepseek3, where the assistant's turn opens with a
  /// thought and earlier thoughts are left out. Throws Error listing them.
  static ChatTemplate by_name(std::string_view name);

  ChatFormat format() const { return format_; }

  /// The whole conversation, ready for the assistant's next word: BOS where the tokenizer wants one
  /// or the template writes one, then every message; `add_generation_prompt` opens the assistant's
  /// turn. Throws Error where the vocabulary lacks one of the format's turn tokens.
  std::vector<TokenId> encode(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                              bool add_generation_prompt) const;

  /// The same as text, special tokens written out (for tests and logs).
  std::string render(std::span<const ChatMessage> messages, std::string_view bos,
                     std::string_view eos, bool add_generation_prompt) const;

 private:
  /// Whether a part is a token is decided where it is written, never by what it says.
  struct Part {
    enum class Kind {
      text,
      turn_token,     // must be a token of the vocabulary
      thought_token,  // <think> or </think>: a token where the vocabulary has it, else text
      bos,
      eos,
    };
    Kind kind;
    std::string text;
  };
  /// What becomes of the "<think>..</think>" in an earlier answer.
  enum class Thoughts { kept, cut_at_last_end, cut_at_first_end, as_qwen3 };

  /// Where a DeepSeek template writes the turn token <|Assistant|>.
  enum class AnswerToken {
    of_every_answer,
    of_answer_to_user,  // not before a second answer in a row
    with_question,      // right after what the user says, asked for or not
  };

  static ChatTemplate from_deepseek3(const std::string& source);
  static ChatTemplate from_chatml(const std::string& source);

  std::vector<Part> parts(std::span<const ChatMessage> messages, bool prompt) const;
  void write_deepseek2(std::span<const ChatMessage> messages, bool prompt,
                       std::vector<Part>& out) const;
  void write_deepseek3(std::span<const ChatMessage> messages, bool prompt,
                       std::vector<Part>& out) const;
  void write_chatml(std::span<const ChatMessage> messages, bool prompt,
                    std::vector<Part>& out) const;
  void write_qwen3_answer(const std::string& content, bool after_last_question, bool is_last,
                          std::vector<Part>& out) const;
  static void write_literal(std::string_view literal, std::vector<Part>& out);
  std::string system_text(std::span<const ChatMessage> messages) const;
  std::string_view without_thoughts(std::string_view content) const;

  ChatFormat format_ = ChatFormat::deepseek3;
  bool writes_bos_ = true;       // the template itself begins with BOS
  bool joins_systems_ = true;    // several system messages count all, else the last one
  bool eos_after_user_ = false;  // also a user's turn ends with EOS
  AnswerToken answer_token_ = AnswerToken::of_every_answer;
  bool prompts_after_user_ = false;  // the generation prompt is written only after a user's turn
  Thoughts thoughts_ = Thoughts::kept;
  std::string answer_opening_;  // what an earlier answer begins with
  std::string prompt_opening_;  // what the generation prompt ends with, e.g. "<think>\n"
  std::string default_system_;  // chatml: said where no system message comes first
};

}  // namespace hybrid
