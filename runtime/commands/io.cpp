#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::string errno_text() { return std::strerror(errno); }

}  // namespace

std::string read_file(const std::string& path) {
  const bool from_stdin = path == "-";
  std::FILE* file = from_stdin ? stdin : std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail("{}: cannot open: {}", printable(path), errno_text());
  std::string text;
  char buffer[65536];
  size_t n;
  while ((n = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, n);
  const bool failed = std::ferror(file) != 0;
  const std::string reason = errno_text();
  if (!from_stdin) std::fclose(file);
  if (stop_flag()) throw Interrupted{};
  if (failed) fail("{}: cannot read: {}", printable(path), reason);
  return text;
}

std::string input_text(const Options& options) {
  const bool has_prompt = options.is_set("prompt");
  if (has_prompt == options.is_set("file")) {
    fail_usage("`{}` needs either -p TEXT or -f FILE", options.command());
  }
  return has_prompt ? options.get("prompt") : read_file(options.get("file"));
}

std::vector<TokenId> parse_token_ids(const std::string& text, std::string_view option) {
  std::vector<TokenId> ids;
  for (const std::string& part : split(text, ',')) {
    const size_t begin = part.find_first_not_of(" \t\r\n");
    const size_t end = part.find_last_not_of(" \t\r\n");
    const std::string word = begin == std::string::npos ? "" : part.substr(begin, end - begin + 1);
    TokenId id{};
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || stop != word.data() + word.size()) {
      fail_usage("{}: expected token ids separated by commas, found '{}'", option, printable(part));
    }
    ids.push_back(id);
  }
  return ids;
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    fail("cannot write to standard output: {}", errno_text());
  }
}

void flush_stdout() {
  if (std::fflush(stdout) != 0) fail("cannot write to standard output: {}", errno_text());
}

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), file_(std::fopen(path_.c_str(), "wb")) {
  if (file_ == nullptr) fail_with_errno("open");
}

OutputFile::~OutputFile() {
  if (file_ != nullptr) std::fclose(file_);
}

void OutputFile::write(const void* data, size_t n_bytes) {
  if (std::fwrite(data, 1, n_bytes, file_) != n_bytes) fail_with_errno("write");
}

void OutputFile::close() {
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail_with_errno("write");
}

void OutputFile::fail_with_errno(const char* action) const {
  fail("{}: cannot {} for output: {}", printable(path_), action, errno_text());
}

}  // namespace hybrid::commands
