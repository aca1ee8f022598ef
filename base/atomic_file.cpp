#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

std::string shown(const fs::path& path) { return printable(path.string(), 4096); }

/// False where the file that was locked is no longer the one with this name.
bool still_has_name(int fd, const fs::path& path) {
  struct stat opened {
  }, named{};
  return fstat(fd, &opened) == 0 && stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

}  // namespace

fs::path AtomicFile::part_path(const fs::path& path) {
  fs::path part = path;
  part += ".part";
  return part;
}

/// False, and errno, where the file cannot be opened there.
bool AtomicFile::open(const fs::path& path) {
  std::error_code ignored;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), ignored);
  const fs::path part = part_path(path);
  constexpr int kMostTries = 100;  // the file may be renamed between opening and locking
  for (int i = 0; i < kMostTries; ++i) {
    fd_ = Descriptor(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (!fd_.is_open()) return false;
    // A file system without locks is taken as it is.
    if (flock(fd_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      fail("{}: another process is writing this file; wait for it or end it", shown(part));
    }
    if (still_has_name(fd_.get(), part)) break;
  }
  path_ = path;
  if (ftruncate(fd_.get(), 0) != 0) fail_with(errno);
  return true;
}

AtomicFile::AtomicFile(const std::vector<fs::path>& candidates) {
  std::vector<std::string> reasons;
  for (const fs::path& path : candidates) {
    if (open(path)) return;
    reasons.push_back(shown(path) + ": cannot open for writing: " + std::strerror(errno));
  }
  HYBRID_CHECK(!reasons.empty());
  throw Error(join(reasons, "; "));
}

AtomicFile::~AtomicFile() {
  if (fd_.is_open()) unlink(part_path(path_).c_str());
}

void AtomicFile::fail_with(int error) const {
  std::string advice;
  if (error == ENOSPC) {
    std::error_code ignored;
    const auto space = fs::space(part_path(path_), ignored);
    advice = fmt::format(" ({} are needed, {} are free)", format_bytes(n_reserved_),
                         format_bytes(ignored ? 0 : space.available));
  }
  fail("{}: cannot write: {}{}", shown(path_), std::strerror(error), advice);
}

void AtomicFile::reserve(uint64_t n_bytes) {
  n_reserved_ = n_bytes;
  int result;
  do {
    result = fallocate(fd_.get(), 0, 0, static_cast<off_t>(n_bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS) fail_with(errno);
}

void AtomicFile::write(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_with(errno);
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void AtomicFile::begin_sync() { sync_file_range(fd_.get(), 0, 0, SYNC_FILE_RANGE_WRITE); }

void AtomicFile::sync() {
  if (fsync(fd_.get()) != 0) fail_with(errno);
}

void AtomicFile::commit() {
  if (std::rename(part_path(path_).c_str(), path_.c_str()) != 0) fail_with(errno);
  fd_ = Descriptor();
  // The name, too, is to be there after a crash; a folder that cannot be synced does without.
  const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  const Descriptor dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir.is_open()) fsync(dir.get());
}

}  // namespace hybrid
