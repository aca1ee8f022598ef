// hybrid-run: parses the command line, runs one command, and turns what it throws into one line and
// an exit code: 0 done, 1 an error, 2 the command line is wrong, 130 Ctrl-C.

#include <cstdio>
#include <new>
#include <utility>

#include "base/error.h"
#include "runtime/commands/command.h"
#include "runtime/version.h"

namespace hybrid::commands {
namespace {

constexpr std::pair<std::string_view, void (*)(const Options&)> kCommands[] = {
    {"run", run},         {"chat", chat},         {"eval", eval}, {"perplexity", perplexity},
    {"inspect", inspect}, {"tokenize", tokenize},
};

bool is_help(const std::string& word) { return word == "--help" || word == "-h"; }

/// --help and --version, wherever an option may stand.
bool answer_questions(const std::vector<std::string>& words) {
  if (words.empty()) return false;
  if (words[0] == "--version") return print("hybrid-run " + version() + "\n"), true;
  if (is_help(words[0]) || (words[0] == "help" && words.size() == 1)) {
    return print(help_text()), true;
  }
  const CommandSpec* command = find_command(words[words[0] == "help" ? 1 : 0]);
  if (command == nullptr) return false;
  const bool asked =
      words[0] == "help" || (words.size() > 1 && is_help(words[1])) || is_help(words.back());
  if (asked) print(help_text(*command));
  return asked;
}

void dispatch(const std::vector<std::string>& words) {
  if (answer_questions(words)) return flush_stdout();
  const Options options = parse_command_line(words);
  set_up_log(options);
  catch_signals();
  for (const auto& [name, command] : kCommands) {
    if (name == options.command()) command(options);
  }
  flush_stdout();
}

int report(const std::string& message, int code) {
  // Result lines that were already streamed come first.
  std::fflush(stdout);
  std::fprintf(stderr, "hybrid-run: %s\n", message.c_str());
  return code;
}

int guarded_main(const std::vector<std::string>& words) {
  try {
    dispatch(words);
    return 0;
  } catch (const UsageError& e) {
    return report(e.what(), 2);
  } catch (const Error& e) {
    return report(e.what(), 1);
  } catch (const Interrupted&) {
    std::fflush(stdout);
    return 128 + stop_signal();
  } catch (const std::bad_alloc&) {
    return report("out of memory; choose a smaller context (-c) or micro-batch (-ub)", 1);
  } catch (const std::exception& e) {
    return report(std::string("internal error: ") + e.what(), 1);
  }
}

}  // namespace
}  // namespace hybrid::commands

int main(int argc, char** argv) { return hybrid::commands::guarded_main({argv + 1, argv + argc}); }
