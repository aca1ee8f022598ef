#include "base/file.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/units.h"

namespace hybrid {
namespace {

[[noreturn]] void cannot_read(const std::string& name, std::string_view what) {
  fail("{}: cannot read {}: {}", printable(name), what, std::strerror(errno));
}

}  // namespace

std::string read_stream(std::FILE* stream, const std::string& name, std::string_view what,
                        size_t max_bytes) {
  std::string text;
  char buffer[65536];
  size_t n;
  while ((n = std::fread(buffer, 1, sizeof buffer, stream)) > 0) {
    text.append(buffer, n);
    if (text.size() > max_bytes) {
      fail("{}: expected at most {} for {}, found more", printable(name), format_bytes(max_bytes),
           what);
    }
  }
  if (std::ferror(stream) != 0) cannot_read(name, what);
  return text;
}

std::string read_file(const std::string& path, std::string_view what, size_t max_bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (file == nullptr) cannot_read(path, what);
  return read_stream(file.get(), path, what, max_bytes);
}

}  // namespace hybrid
