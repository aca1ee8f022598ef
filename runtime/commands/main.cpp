// hybrid-run: parses the command line, runs one command, and turns what it throws into one line and
// an exit code: 0 done, 1 an error, 2 the command line is wrong, 130 Ctrl-C.

#include <fcntl.h>

#include <cstdio>
#include <new>
#include <utility>

#include "base/error.h"
#include "runtime/commands/command.h"
#include "runtime/version.h"

namespace hybrid::commands {
namespace {

constexpr std::pair<std::string_view, void (*)(const Options&)> kCommands[] = {
    {"run", run},           {"chat", chat},
    {"eval", eval},         {"perplexity", perplexity},
    {"bench", bench},       {"plan", plan},
    {"inspect", inspect},   {"repack", repack},
    {"tokenize", tokenize}, {"topology", topology},
    {"tune", tune},
};

void dispatch(const std::vector<std::string>& words) {
  const Options options = parse_command_line(words);
  if (options.question() == Question::version) {
    print("hybrid-run " + version() + "\n");
  } else if (options.question() == Question::help) {
    const CommandSpec* command = find_command(options.command());
    print(command == nullptr ? help_text() : help_text(*command));
  } else {
    set_up_log(options);
    const Options tuned = with_tuned(options);
    for (const auto& [name, command] : kCommands) {
      if (name == tuned.command()) command(tuned);
    }
  }
  flush_stdout();
}

/// A file that is opened later must not take the number of a closed standard stream.
void keep_standard_streams() {
  constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_WRONLY};  // using 0 or 1 stays an error
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", kModes[fd]) != fd) return;
  }
}

int report(const std::string& message, int code) {
  // Result lines that were already streamed come first.
  std::fflush(stdout);
  std::fprintf(stderr, "hybrid-run: %s\n", message.c_str());
  return code;
}

int guarded_main(const std::vector<std::string>& words) {
  keep_standard_streams();
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
