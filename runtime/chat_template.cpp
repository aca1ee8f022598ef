#include "runtime/chat_template.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr std::string_view kKnownNames = "deepseek2, deepseek3, deepseek-r1, deepseek-v3.1, chatml";
constexpr std::string_view kAssistantQuoted = "'<｜Assistant｜>";

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Templates are stored with "\n" spelled out or as it is, and with either kind of quotes.
std::string normalized(std::string_view source) {
  std::string out;
  for (char c : source) {
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c == '"' ? '\'' : c;
    }
  }
  return out;
}

/// The text of a literal that was taken from a normalized template.
std::string unescaped(std::string_view literal) {
  std::string out;
  while (!literal.empty()) {
    const bool newline = literal.starts_with("\\n");
    out += newline ? '\n' : literal[0];
    literal.remove_prefix(newline ? 2 : 1);
  }
  return out;
}

[[noreturn]] void fail_unknown(const std::string& what) {
  fail("{}; the known chat formats are {}: choose one with --chat-template NAME", what,
       kKnownNames);
}

/// What is said in the system's name where no system message comes first: a literal between
/// "<|im_start|>system\n" and "<|im_end|>". Where it runs into code instead, it introduces tools.
std::string find_default_system(std::string_view source) {
  static constexpr std::string_view kOpening = "<|im_start|>system\\n";
  for (size_t at = source.find(kOpening); at != std::string_view::npos;
       at = source.find(kOpening, at)) {
    at += kOpening.size();
    const std::string_view rest = source.substr(at);
    const std::string_view literal = rest.substr(0, rest.find("<|im_end|>"));
    if (!literal.empty() && literal.find_first_of("'{}") == std::string_view::npos) {
      return unescaped(literal);
    }
  }
  return "";
}

}  // namespace

std::string_view name_of(ChatFormat format) {
  switch (format) {
    case ChatFormat::deepseek2:
      return "deepseek2";
    case ChatFormat::deepseek3:
      return "deepseek3";
    case ChatFormat::deepseek_v31:
      return "deepseek-v3.1";
    case ChatFormat::chatml:
      return "chatml";
  }
  return "";
}

ChatTemplate ChatTemplate::by_name(std::string_view name) {
  ChatTemplate out;
  if (name == "deepseek2") {
    out.format_ = ChatFormat::deepseek2;
  } else if (name == "deepseek-r1") {
    out.thoughts_ = Thoughts::cut_at_last_end;
    out.prompt_opening_ = "<think>\n";
  } else if (name == "deepseek-v3.1") {
    out.format_ = ChatFormat::deepseek_v31;
    out.thoughts_ = Thoughts::cut_at_first_end;
    out.answer_token_ = AnswerToken::of_answer_to_user;
    out.prompts_after_user_ = true;
    out.answer_opening_ = out.prompt_opening_ = "</think>";
  } else if (name == "chatml") {
    out.format_ = ChatFormat::chatml;
    out.writes_bos_ = false;
  } else if (name != "deepseek3") {
    fail("unknown chat format \"{}\"; the known ones are {}", printable(name), kKnownNames);
  }
  return out;
}

ChatTemplate ChatTemplate::from_metadata(const GgufMetadata& metadata) {
  const std::string* found = metadata.find_string("tokenizer.chat_template");
  if (found == nullptr) {
    fail_unknown(metadata.source() + ": expected a tokenizer.chat_template, found none");
  }
  const std::string source = normalized(*found);
  const auto unknown = [&] {
    fail_unknown(metadata.source() +
                 ": tokenizer.chat_template is none of the known templates (\"" +
                 printable(*found, 60) + "\")");
  };
  // The 3.2 template says other things with the same tokens.
  if (has(source, "DSML")) unknown();
  const bool deepseek3 =
      has(source, "'<｜User｜>' + message['content']") || has(source, "'<｜User｜>' + content");
  if (deepseek3 && has(source, kAssistantQuoted)) {
    return from_deepseek3(source);
  }
  if (has(source, "'User: ' + message['content'] + '\\n\\n'") &&
      has(source, "'Assistant: ' + message['content'] + eos_token") &&
      has(source, "'Assistant:'")) {
    return by_name("deepseek2");
  }
  const bool chatml = has(source, "<|im_start|>") && (has(source, "content'] + '<|im_end|>'") ||
                                                      has(source, "content + '<|im_end|>'"));
  const bool other = has(source, "<|im_middle|>") || has(source, "<|im_sep|>") ||
                     (has(source, "reasoning_content") && !has(source, "last_query_index"));
  if (!chatml || other) unknown();
  return from_chatml(source);
}

ChatTemplate ChatTemplate::from_deepseek3(const std::string& source) {
  const bool with_question = has(source, "'<｜User｜>' + message['content'] + '<｜Assistant｜>'") ||
                             has(source, "'<｜User｜>' + content + '<｜Assistant｜>'");
  const bool v31 = !with_question && has(source, "is_last_user");
  ChatTemplate out = by_name(v31 ? "deepseek-v3.1" : "deepseek3");
  if (with_question) out.answer_token_ = AnswerToken::with_question;
  out.joins_systems_ = has(source, "is_first_sp");
  out.eos_after_user_ = has(source, "'<｜User｜>' + message['content'] + '<｜end▁of▁sentence｜>'");
  if (has(source, "split('</think>')[-1]")) {
    out.thoughts_ = Thoughts::cut_at_last_end;
  } else if (!has(source, "split('</think>', 1)[1]")) {
    out.thoughts_ = Thoughts::kept;
  }
  if (v31) {
    out.prompts_after_user_ = !has(source, "not ns.is_prefix");
    if (has(source, "'<think></think>'")) {
      out.answer_opening_ = out.prompt_opening_ = "<think></think>";
    }
  } else {
    // The last thing these templates write is the generation prompt.
    const size_t begin = source.rfind(kAssistantQuoted) + kAssistantQuoted.size();
    out.prompt_opening_ =
        unescaped(std::string_view(source).substr(begin, source.find('\'', begin) - begin));
  }
  return out;
}

ChatTemplate ChatTemplate::from_chatml(const std::string& source) {
  ChatTemplate out = by_name("chatml");
  out.writes_bos_ = has(source, "bos_token");
  out.default_system_ = find_default_system(source);
  if (has(source, "last_query_index")) out.thoughts_ = Thoughts::as_qwen3;
  if (has(source, "'<|im_start|>assistant\\n<think>\\n'")) out.prompt_opening_ = "<think>\n";
  return out;
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, std::string_view bos,
                                 std::string_view eos, bool add_generation_prompt) const {
  std::string out;
  for (const Part& part : parts(messages, add_generation_prompt)) {
    if (part.kind == Part::Kind::bos) {
      out += bos;
    } else if (part.kind == Part::Kind::eos) {
      out += eos;
    } else {
      out += part.text;
    }
  }
  return out;
}

std::vector<TokenId> ChatTemplate::encode(const Tokenizer& tokenizer,
                                          std::span<const ChatMessage> messages,
                                          bool add_generation_prompt) const {
  std::vector<TokenId> ids;
  // Text between two tokens is encoded in one go: words may form across the parts it came from.
  std::string text;
  const auto flush = [&] {
    const std::vector<TokenId> encoded = tokenizer.encode(text);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    text.clear();
  };
  const auto append = [&](TokenId id, std::string_view what) {
    if (id < 0) {
      fail(
          "the chat format {} needs the token {}, which the vocabulary lacks; choose another with "
          "--chat-template NAME",
          name_of(format_), what);
    }
    flush();
    ids.push_back(id);
  };

  if (tokenizer.wants_bos() && !writes_bos_) ids.push_back(tokenizer.bos());
  for (const Part& part : parts(messages, add_generation_prompt)) {
    switch (part.kind) {
      case Part::Kind::bos:
        if (tokenizer.bos() >= 0) append(tokenizer.bos(), "BOS");
        break;
      case Part::Kind::eos:
        append(tokenizer.eos(), "EOS");
        break;
      case Part::Kind::turn_token:
        append(tokenizer.find_token(part.text), part.text);
        break;
      case Part::Kind::thought_token:
        if (const TokenId id = tokenizer.find_token(part.text); id >= 0) {
          append(id, part.text);
          break;
        }
        [[fallthrough]];
      case Part::Kind::text:
        text += part.text;
        break;
    }
  }
  flush();
  return ids;
}

}  // namespace hybrid
