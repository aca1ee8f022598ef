#include "tensor/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/descriptor.h"
#include "base/error.h"

namespace hybrid {
namespace {

struct stat regular_file_info(int fd, const std::string& name) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail("{}: cannot get the file's size: {}", name, strerror(errno));
  if (S_ISDIR(info.st_mode)) fail("{}: expected a file, found a directory", name);
  if (!S_ISREG(info.st_mode)) fail("{}: expected a regular file, found a pipe or device", name);
  return info;
}

/// A time beyond the year 2262 wraps around: it is only compared.
int64_t nanoseconds(const timespec& time) {
  return static_cast<int64_t>(static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 +
                              static_cast<uint64_t>(time.tv_nsec));
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const std::string name = printable(path.string(), 4096);
  // O_NONBLOCK: opening a pipe must be an error, not a wait for somebody who writes to it.
  // The mapping outlives the descriptor, so a model of many parts holds none.
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) fail("{}: cannot open the file: {}", name, strerror(errno));
  const struct stat info = regular_file_info(fd.get(), name);
  const auto n_bytes = static_cast<uint64_t>(info.st_size);
  const int64_t mtime_ns = nanoseconds(info.st_mtim);
  if (n_bytes == 0) return MappedFile({}, mtime_ns);
  void* address = ::mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) {
    fail("{}: cannot map {} bytes into memory: {}", name, n_bytes, strerror(errno));
  }
  return MappedFile({static_cast<const std::byte*>(address), n_bytes}, mtime_ns);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), mtime_ns_(other.mtime_ns_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(mtime_ns_, other.mtime_ns_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

namespace {

constexpr uint64_t kPage = 4096;

/// madvise on the whole pages inside a range, or on all that it touches.
void advise(std::span<const std::byte> bytes, bool inside, int advice) {
  const auto begin = reinterpret_cast<uint64_t>(bytes.data()), end = begin + bytes.size();
  const uint64_t first = (inside ? begin + kPage - 1 : begin) / kPage * kPage;
  const uint64_t last = (inside ? end : end + kPage - 1) / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

void populate_pages(std::span<const std::byte> bytes) {
#if defined(MADV_POPULATE_READ)
  advise(bytes, false, MADV_POPULATE_READ);
#else
  advise(bytes, false, MADV_WILLNEED);
#endif
}

void release_pages(std::span<const std::byte> bytes) { advise(bytes, true, MADV_DONTNEED); }

}  // namespace hybrid
