#pragma once
// A file mapped read-only into memory. Nothing is read until it is touched.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace hybrid {

/// The mapping has the size that the file had when it was opened. A file that another process cuts
/// short afterwards ends the program (SIGBUS) where the missing pages are touched.
class MappedFile {
 public:
  /// Throws Error where there is no such file, it is not a regular file, or it cannot be mapped.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  uint64_t n_bytes() const { return bytes_.size(); }
  /// When the file was last modified, in nanoseconds since 1970, as of the opening.
  int64_t mtime_ns() const { return mtime_ns_; }

 private:
  MappedFile(std::span<const std::byte> bytes, int64_t mtime_ns)
      : bytes_(bytes), mtime_ns_(mtime_ns) {}

  std::span<const std::byte> bytes_;
  int64_t mtime_ns_ = 0;
};

/// Maps the pages of a range in one go, reading what is not in memory. Only a hint.
void populate_pages(std::span<const std::byte> bytes);

/// Gives back the pages that lie wholly in a range: the process holds them no more, the system's
/// file cache may. They come again when touched.
void release_pages(std::span<const std::byte> bytes);

}  // namespace hybrid
