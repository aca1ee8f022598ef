#include <csignal>

#include "base/error.h"
#include "base/text.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {

TraceFile::TraceFile(const Options& options) {
  const auto path = options.find("trace");
  if (!path) return;
  path_ = *path;
  // A reader of our output that goes away must not take the trace with it.
  std::signal(SIGPIPE, SIG_IGN);
  file_.emplace(path_);
}

void TraceFile::write() {
  if (!file_) return;
  const std::string text = trace_.json();
  file_->write(text.data(), text.size());
  file_->close();
  file_.reset();
  log_info(
      fmt::format("trace: {} in {}", plural(trace_.n_zones(), "zone"), printable(path_, 4096)));
  if (const size_t n = trace_.n_dropped(); n > 0) {
    log_info(fmt::format("trace: the last {} were left out", plural(n, "zone")));
  }
}

TraceFile::~TraceFile() {
  try {
    write();
  } catch (const Error& error) {
    log_info(fmt::format("trace: {}", error.what()));
  }
}

}  // namespace hybrid::commands
