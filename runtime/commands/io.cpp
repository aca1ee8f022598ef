#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::string errno_text() { return std::strerror(errno); }

}  // namespace

std::string read_input(const std::string& path) {
  constexpr std::string_view kWhat = "the input";
  if (path != "-") return read_file(path, kWhat);
  try {
    std::string text = read_stream(stdin, "standard input", kWhat);
    if (!stop_flag()) return text;
  } catch (const Error&) {
    if (!stop_flag()) throw;
  }
  throw Interrupted{};
}

std::string input_text(const Options& options) {
  const bool has_prompt = options.is_set("prompt");
  if (has_prompt == options.is_set("file")) {
    fail_usage("`{}` needs either -p TEXT or -f FILE", options.command());
  }
  return has_prompt ? options.get("prompt") : read_input(options.get("file"));
}

std::vector<TokenId> parse_token_ids(const std::string& text, std::string_view option) {
  std::vector<TokenId> ids;
  for (const std::string& part : split(text, ',')) {
    const size_t begin = part.find_first_not_of(" \t\r\n");
    const size_t end = part.find_last_not_of(" \t\r\n");
    const std::string word = begin == std::string::npos ? "" : part.substr(begin, end - begin + 1);
    TokenId id{};
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error == std::errc::result_out_of_range) {
      fail("token id {} is out of range", printable(word));
    }
    if (error != std::errc{} || stop != word.data() + word.size()) {
      fail_usage("{}: expected token ids separated by commas, found '{}'", option, printable(part));
    }
    ids.push_back(id);
  }
  return ids;
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw StdoutError("cannot write to standard output: " + errno_text());
  }
}

void flush_stdout() {
  if (std::fflush(stdout) != 0) {
    throw StdoutError("cannot write to standard output: " + errno_text());
  }
}

void check_outputs(const Options& options, const GgufFile& model,
                   const std::vector<std::string_view>& outputs,
                   const std::vector<std::string_view>& inputs) {
  namespace fs = std::filesystem;
  std::vector<fs::path> taken;
  for (const GgufFile::Part& part : model.parts()) taken.push_back(part.path);
  for (const std::string_view name : inputs) {
    if (const auto path = options.find(name)) taken.emplace_back(*path);
  }
  for (const std::string_view name : outputs) {
    const auto path = options.find(name);
    if (!path) continue;
    for (const fs::path& other : taken) {
      std::error_code ignored;
      if (fs::path(*path) == other ||
          (fs::equivalent(*path, other, ignored) && !fs::is_character_file(*path, ignored))) {
        fail("--{} {}: this run already uses that file; choose another", name, printable(*path));
      }
    }
    taken.emplace_back(*path);
  }
}

OutputFile::OutputFile(std::string path) : path_(std::move(path)), written_path_(path_) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path_, ignored);
  if (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status)) {
    written_path_ += ".part";
  }
  file_ = std::fopen(written_path_.c_str(), "wb");
  if (file_ == nullptr) fail_with_errno("open");
}

OutputFile::~OutputFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  if (written_path_ != path_) std::remove(written_path_.c_str());
}

void OutputFile::write(const void* data, size_t n_bytes) {
  if (std::fwrite(data, 1, n_bytes, file_) != n_bytes) fail_with_errno("write");
}

void OutputFile::close() {
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail_with_errno("write");
  if (written_path_ != path_ && std::rename(written_path_.c_str(), path_.c_str()) != 0) {
    fail_with_errno("rename");
  }
}

void OutputFile::fail_with_errno(const char* action) const {
  fail("{}: cannot {} for output: {}", printable(path_), action, errno_text());
}

}  // namespace hybrid::commands
