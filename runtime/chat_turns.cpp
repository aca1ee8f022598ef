// What each chat format writes, part by part; chat_template.cpp chooses the format.

#include <algorithm>

#include "runtime/chat_template.h"

namespace hybrid {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";

std::string_view name_of(ChatRole role) {
  switch (role) {
    case ChatRole::system:
      return "system";
    case ChatRole::user:
      return "user";
    case ChatRole::assistant:
      return "assistant";
  }
  return "";
}

std::string_view lstrip_newlines(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text;
}

std::string_view strip_newlines(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return lstrip_newlines(text);
}

/// The text after the last `mark`; all of it where there is none.
std::string_view after_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == std::string_view::npos ? text : text.substr(at + mark.size());
}

/// A tool's answer comes in the user's name and is no question.
bool is_question(const ChatMessage& message) {
  return message.role == ChatRole::user && !(message.content.starts_with("<tool_response>") &&
                                             message.content.ends_with("</tool_response>"));
}

}  // namespace

void ChatTemplate::write_literal(std::string_view literal, std::vector<Part>& out) {
  while (!literal.empty()) {
    const size_t end = std::min({literal.find(kThink), literal.find(kEndThink), literal.size()});
    if (end > 0) out.push_back({Part::Kind::text, std::string(literal.substr(0, end))});
    literal.remove_prefix(end);
    for (std::string_view token : {kThink, kEndThink}) {
      if (!literal.starts_with(token)) continue;
      out.push_back({Part::Kind::thought_token, std::string(token)});
      literal.remove_prefix(token.size());
    }
  }
}

std::string_view ChatTemplate::without_thoughts(std::string_view content) const {
  if (thoughts_ == Thoughts::cut_at_last_end) return after_last(content, kEndThink);
  const size_t first = content.find(kEndThink);
  const bool cut = thoughts_ == Thoughts::cut_at_first_end && first != std::string_view::npos;
  return cut ? content.substr(first + kEndThink.size()) : content;
}

std::string ChatTemplate::system_text(std::span<const ChatMessage> messages) const {
  std::string out;
  bool first = true;
  for (const ChatMessage& message : messages) {
    if (message.role != ChatRole::system) continue;
    if (!joins_systems_) out.clear();
    if (joins_systems_ && !first) out += "\n\n";
    out += message.content;
    first = false;
  }
  return out;
}

auto ChatTemplate::parts(std::span<const ChatMessage> messages, bool prompt) const
    -> std::vector<Part> {
  std::vector<Part> out;
  if (writes_bos_) out.push_back({Part::Kind::bos, ""});
  switch (format_) {
    case ChatFormat::deepseek2:
      write_deepseek2(messages, prompt, out);
      break;
    case ChatFormat::deepseek3:
    case ChatFormat::deepseek_v31:
      write_deepseek3(messages, prompt, out);
      break;
    case ChatFormat::chatml:
      write_chatml(messages, prompt, out);
      break;
  }
  return out;
}

void ChatTemplate::write_deepseek2(std::span<const ChatMessage> messages, bool prompt,
                                   std::vector<Part>& out) const {
  for (const ChatMessage& message : messages) {
    if (message.role == ChatRole::assistant) {
      out.push_back({Part::Kind::text, "Assistant: " + message.content});
      out.push_back({Part::Kind::eos, ""});
    } else {
      const std::string opening = message.role == ChatRole::user ? "User: " : "";
      out.push_back({Part::Kind::text, opening + message.content + "\n\n"});
    }
  }
  if (prompt) out.push_back({Part::Kind::text, "Assistant:"});
}

void ChatTemplate::write_deepseek3(std::span<const ChatMessage> messages, bool prompt,
                                   std::vector<Part>& out) const {
  const auto open_answer = [&](const std::string& opening) {
    out.push_back({Part::Kind::turn_token, "<｜Assistant｜>"});
    write_literal(opening, out);
  };
  const bool with_question = answer_token_ == AnswerToken::with_question;
  out.push_back({Part::Kind::text, system_text(messages)});
  bool after_user = false;
  for (const ChatMessage& message : messages) {
    if (message.role == ChatRole::user) {
      out.push_back({Part::Kind::turn_token, "<｜User｜>"});
      out.push_back({Part::Kind::text, message.content});
      if (eos_after_user_) out.push_back({Part::Kind::eos, ""});
      if (with_question) open_answer("");
      after_user = true;
    } else if (message.role == ChatRole::assistant) {
      const bool to_user = after_user && answer_token_ == AnswerToken::of_answer_to_user;
      if (to_user || answer_token_ == AnswerToken::of_every_answer) open_answer(answer_opening_);
      out.push_back({Part::Kind::text, std::string(without_thoughts(message.content))});
      out.push_back({Part::Kind::eos, ""});
      after_user = false;
    }
  }
  const bool opened = with_question && after_user;
  if (prompt && !opened && (after_user || !prompts_after_user_)) open_answer(prompt_opening_);
}

void ChatTemplate::write_chatml(std::span<const ChatMessage> messages, bool prompt,
                                std::vector<Part>& out) const {
  const auto open = [&](std::string_view role) {
    out.push_back({Part::Kind::turn_token, "<|im_start|>"});
    out.push_back({Part::Kind::text, std::string(role) + "\n"});
  };
  const auto say = [&](ChatRole role, const std::string& content) {
    open(name_of(role));
    out.push_back({Part::Kind::text, content});
  };
  const auto close = [&] {
    out.push_back({Part::Kind::turn_token, "<|im_end|>"});
    out.push_back({Part::Kind::text, "\n"});
  };

  const bool system_first = !messages.empty() && messages[0].role == ChatRole::system;
  if (!default_system_.empty() && !system_first) {
    say(ChatRole::system, default_system_);
    close();
  }
  size_t last_question = messages.size();
  while (last_question > 0 && !is_question(messages[last_question - 1])) --last_question;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == ChatRole::assistant && thoughts_ == Thoughts::as_qwen3) {
      open(name_of(message.role));
      const bool after_last_question = last_question > 0 && i >= last_question;
      write_qwen3_answer(message.content, after_last_question, i + 1 == messages.size(), out);
    } else {
      say(message.role, message.content);
    }
    close();
  }
  if (prompt) {
    open(name_of(ChatRole::assistant));
    write_literal(prompt_opening_, out);
  }
}

/// Thoughts are kept only in answers to the last question, and the last answer always has some.
void ChatTemplate::write_qwen3_answer(const std::string& content, bool after_last_question,
                                      bool is_last, std::vector<Part>& out) const {
  std::string_view answer = content, thought;
  if (const size_t end = content.find(kEndThink); end != std::string::npos) {
    answer = lstrip_newlines(after_last(content, kEndThink));
    const std::string_view before = std::string_view(content).substr(0, end);
    thought = strip_newlines(after_last(before, kThink));
  }
  if (after_last_question && (is_last || !thought.empty())) {
    write_literal("<think>\n", out);
    out.push_back({Part::Kind::text, std::string(thought)});
    write_literal("\n</think>\n\n", out);
    answer = lstrip_newlines(answer);
  }
  out.push_back({Part::Kind::text, std::string(answer)});
}

}  // namespace hybrid
