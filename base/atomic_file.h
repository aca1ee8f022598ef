#pragma once
// A large file that has its name only when all of it is on the disk.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/descriptor.h"

namespace hybrid {

/// Until commit() the file is PATH.part, locked against a second writer; one that a crash left
/// behind is written anew. Errors (Error) say the path and the system's reason.
class AtomicFile {
 public:
  /// The first of `candidates` that can be opened for writing; its folder is made where there is
  /// none.
  explicit AtomicFile(const std::vector<std::filesystem::path>& candidates);
  /// Leaves nothing behind unless commit() was called.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Takes the space from the file system, where that can do so: a full disk is known at once.
  void reserve(uint64_t n_bytes);
  /// Threads may write disjoint ranges at the same time.
  void write(uint64_t offset, std::span<const std::byte> bytes);
  /// Tells the system to begin writing to the disk, so that sync() has less to wait for.
  void begin_sync();
  /// Waits until everything is on the disk.
  void sync();
  /// Gives the file its name, after a sync().
  void commit();

  static std::filesystem::path part_path(const std::filesystem::path& path);

 private:
  bool open(const std::filesystem::path& path);
  [[noreturn]] void fail_with(int error) const;

  std::filesystem::path path_;
  uint64_t n_reserved_ = 0;
  Descriptor fd_;
};

}  // namespace hybrid
