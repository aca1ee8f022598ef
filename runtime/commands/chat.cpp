#include <unistd.h>

#include <cstdio>

#include "base/error.h"
#include "runtime/chat_template.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

/// A line of standard input without its newline; false at the end.
bool read_line(std::string& line) {
  line.clear();
  int c;
  while ((c = std::fgetc(stdin)) != EOF && c != '\n') line += static_cast<char>(c);
  if (stop_flag()) throw Interrupted{};
  return c != EOF || !line.empty();
}

class Conversation {
 public:
  Conversation(const Engine& engine, const ChatTemplate& chat_template, const Options& options)
      : engine_(engine), template_(chat_template), sequence_(engine.make_sequence()) {
    params_.sampling = sampling_params(options);
    params_.n_predict = options.get_integer("n-predict");
    params_.stop = &stop_flag();
    if (const auto system = options.find("system")) system_.push_back({ChatRole::system, *system});
    reset();
    // A template whose tokens the vocabulary lacks is refused before anything is said.
    const ChatMessage probe{ChatRole::user, ""};
    template_.encode(engine_.tokenizer(), std::span(&probe, 1), true);
  }

  Sequence& sequence() { return sequence_; }

  void reset() { messages_ = system_; }

  /// Takes what the user says and streams the answer. Throws Error where the conversation does not
  /// fit the context or the text is not UTF-8; the conversation is then as before.
  void answer(const std::string& text) {
    messages_.push_back({ChatRole::user, text});
    std::string reply;
    try {
      const auto prompt = template_.encode(engine_.tokenizer(), messages_, true);
      if (prompt.size() > engine_.n_ctx()) {
        fail("the conversation has {} tokens, the context {}; /reset begins a new one",
             prompt.size(), engine_.n_ctx());
      }
      const auto result = engine_.generate(sequence_, prompt, params_, [&](std::string_view piece) {
        reply += piece;
        print(piece);
        flush_stdout();
      });
      print("\n");
      flush_stdout();
      log_detail(fmt::format("prompt {} tokens ({} more reused), generated {}", result.n_prompt,
                             result.n_reused, result.n_generated));
      if (result.finish == FinishReason::interrupted) throw Interrupted{};
      if (result.finish == FinishReason::context_full) {
        log_info("the context is full; /reset begins a new conversation");
      }
    } catch (const Error&) {
      messages_.pop_back();
      throw;
    }
    messages_.push_back({ChatRole::assistant, reply});
  }

 private:
  const Engine& engine_;
  const ChatTemplate& template_;
  Sequence sequence_;
  GenerateParams params_;
  std::vector<ChatMessage> system_;
  std::vector<ChatMessage> messages_;
};

/// Until the user ends it. Throws Interrupted after Ctrl-C.
void talk(Conversation& conversation) {
  const bool interactive = isatty(STDIN_FILENO) != 0;
  std::string line;
  while (true) {
    if (interactive) std::fputs("> ", stderr);
    if (!read_line(line)) return;
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (line == "/exit") return;
    if (line.empty()) continue;
    if (line == "/reset") {
      conversation.reset();
      continue;
    }
    try {
      conversation.answer(line);
    } catch (const StdoutError&) {
      throw;
    } catch (const Error& e) {
      if (!interactive) throw;
      std::fprintf(stderr, "hybrid-run: %s\n", e.what());
    }
  }
}

}  // namespace

void chat(const Options& options) {
  catch_signals();
  TraceFile trace(options);
  Engine engine(engine_options(options, trace.trace()));
  const auto name = options.find("chat-template");
  const ChatTemplate chat_template =
      name ? ChatTemplate::by_name(*name)
           : ChatTemplate::from_metadata(engine.model().file().metadata());
  check_outputs(options, engine.model().file(), {"cache-file"}, {});
  engine.place();
  Conversation conversation(engine, chat_template, options);
  CacheFile cache_file(options, conversation.sequence());
  engine.prepare();
  log_banner(options, engine, conversation.sequence());
  cache_file.log_restored();
  log_info(fmt::format("chat template {}; /reset begins a new conversation, /exit or Ctrl-D ends",
                       name_of(chat_template.format())));
  cache_file.save_after([&] { talk(conversation); });
}

}  // namespace hybrid::commands
