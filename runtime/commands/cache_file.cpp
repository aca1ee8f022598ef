#include <csignal>

#include "base/error.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::string shown(const std::filesystem::path& path) { return printable(path.string(), 4096); }

}  // namespace

CacheFile::CacheFile(const Options& options, Sequence& sequence) : sequence_(sequence) {
  const auto path = options.find("cache-file");
  if (!path) return;
  writer_.emplace(*path);
  // A reader of our output that goes away must not take the sequence with it.
  std::signal(SIGPIPE, SIG_IGN);
  if (restore_sequence(writer_->path(), sequence)) n_restored_ = sequence.tokens().size();
}

void CacheFile::log_restored() const {
  if (!writer_) return;
  log_info(n_restored_ > 0
               ? fmt::format("restored {} tokens from {}", n_restored_, shown(writer_->path()))
               : fmt::format("{} will hold the sequence at the end", shown(writer_->path())));
}

void CacheFile::save() {
  if (!writer_) return;
  const size_t n = sequence_.tokens().size();
  if (n == 0)
    return log_info("nothing was computed: " + shown(writer_->path()) + " stays as it is");
  writer_->write(sequence_);
  log_info(fmt::format("saved {} tokens to {}", n, shown(writer_->path())));
}

}  // namespace hybrid::commands
