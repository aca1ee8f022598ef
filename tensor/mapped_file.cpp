#include "tensor/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace hybrid {
namespace {

/// Closes on every way out; a mapping outlives its descriptor, so a model of many parts holds none.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

uint64_t regular_file_bytes(int fd, const std::string& name) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail("{}: cannot get the file's size: {}", name, strerror(errno));
  if (S_ISDIR(info.st_mode)) fail("{}: expected a file, found a directory", name);
  if (!S_ISREG(info.st_mode)) fail("{}: expected a regular file, found a pipe or device", name);
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const std::string name = printable(path.string(), 4096);
  // O_NONBLOCK: opening a pipe must be an error, not a wait for somebody who writes to it.
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail("{}: cannot open the file: {}", name, strerror(errno));
  const uint64_t n_bytes = regular_file_bytes(fd.get(), name);
  if (n_bytes == 0) return MappedFile();
  void* address = ::mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) {
    fail("{}: cannot map {} bytes into memory: {}", name, n_bytes, strerror(errno));
  }
  return MappedFile({static_cast<const std::byte*>(address), n_bytes});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
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
