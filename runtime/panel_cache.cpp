#include "runtime/panel_cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/rounding.h"
#include "tensor/mapped_file.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

/// Why a cache is not used; thrown inside this file alone.
struct Unusable {
  std::string reason;
};

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Unusable{fmt::format(format, std::forward<Args>(args)...)};
}

struct CacheFile {
  Descriptor fd;
  uint64_t n_bytes = 0;

  void read(uint64_t offset, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t n = pread(fd.get(), to.data(), to.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) refuse("it cannot be read: {}", std::strerror(errno));
      if (n == 0) refuse("it is cut short: it ends at byte {}", offset);
      offset += static_cast<uint64_t>(n);
      to = to.subspan(static_cast<size_t>(n));
    }
  }
};

/// Nothing is open where there is no such file.
CacheFile open_cache(const fs::path& path) {
  CacheFile file{Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))};
  if (!file.fd.is_open()) {
    if (errno == ENOENT || errno == ENOTDIR) return file;
    refuse("it cannot be opened: {}", std::strerror(errno));
  }
  struct stat info {};
  if (fstat(file.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) refuse("it is no regular file");
  file.n_bytes = static_cast<uint64_t>(info.st_size);
  return file;
}

PanelCacheHeader read_header(const CacheFile& file) {
  PanelCacheHeader header;
  if (file.n_bytes < sizeof(header)) refuse("it is cut short: it has {} bytes", file.n_bytes);
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  if (std::memcmp(header.magic, kPanelCacheMagic, sizeof(header.magic)) != 0) {
    refuse("it is no cache of packed weights");
  }
  if (header.version != kPanelCacheVersion) {
    refuse("it has format version {}, this program reads {}", header.version, kPanelCacheVersion);
  }
  if (header.header_hash != hash_of(header)) refuse("it is damaged (wrong checksum of the header)");
  return header;
}

/// All but the hashes, byte for byte.
bool same_sizes(PanelCacheHeader a, PanelCacheHeader b) {
  for (PanelCacheHeader* h : {&a, &b}) h->head_hash = h->header_hash = 0;
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

void compare_parts(std::span<const PanelCachePart> found, std::span<const PanelCachePart> now) {
  for (size_t i = 0; i < now.size(); ++i) {
    const std::string part =
        now.size() > 1 ? fmt::format("part {} of the model", i + 1) : "the model";
    if (found[i].n_bytes != now[i].n_bytes) {
      refuse("{} has changed since it was written: {} bytes then, {} now", part, found[i].n_bytes,
             now[i].n_bytes);
    }
    if (found[i].content_hash != now[i].content_hash) {
      refuse("{} has changed since it was written", part);
    }
    if (found[i].mtime_ns != now[i].mtime_ns) {
      refuse("{} was modified or copied since it was written", part);
    }
  }
}

/// The file's head, checked against the one that this model must have.
PanelCacheHead read_head(const CacheFile& file, const GgufFile& model,
                         const std::vector<const Weight*>& weights) {
  const PanelCacheHeader header = read_header(file);
  const PanelCacheHead expected(model, weights);
  if (!same_sizes(header, expected.header())) {
    refuse("it was written for another model, or by another version of the program");
  }
  const uint64_t n_bytes = header.data_offset + header.data_bytes;
  if (file.n_bytes != n_bytes) {
    refuse("it is cut short or too long: {} bytes, expected {}", file.n_bytes, n_bytes);
  }
  PanelCacheHead found = expected;
  file.read(sizeof(header), found.body());
  if (hash_bytes(found.body(), kPanelCacheVersion) != header.head_hash) {
    refuse("it is damaged (wrong checksum of the tables)");
  }
  compare_parts(found.parts(), expected.parts());
  if (std::memcmp(found.weights().data(), expected.weights().data(),
                  found.weights().size_bytes()) != 0) {
    refuse("it was written by another version of the program");
  }
  return found;
}

uint64_t chunk_bytes(uint64_t chunk, uint64_t n_all) {
  return std::min(kPanelCacheChunkBytes, n_all - chunk * kPanelCacheChunkBytes);
}

/// Calls body(chunk) for each chunk of the data on all workers, in slices of 128 MB with a word
/// about progress between them; the last word is left to the caller.
template <class Body>
void for_chunks(Workers& workers, LoadStep step, const LoadProgress& progress, const Body& body) {
  constexpr uint64_t kSlice = 64;
  const uint64_t n_chunks = divide_up(step.n_all, kPanelCacheChunkBytes);
  for (uint64_t first = 0; first < n_chunks; first += kSlice) {
    const uint64_t n = std::min(kSlice, n_chunks - first);
    workers.parallel_for(n, 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) body(first + i);
    });
    step.n_done = std::min(step.n_all, (first + n) * kPanelCacheChunkBytes);
    if (progress) progress(step);
  }
}

/// Reads and checks all; keeps it where there is memory for it.
PanelCacheStatus read_all(const fs::path& path, const GgufFile& model,
                          const std::vector<const Weight*>& weights, const PanelMemory* to,
                          Workers& workers, const LoadProgress& progress) try {
  const CacheFile file = open_cache(path);
  if (!file.fd.is_open()) return {PanelCacheStatus::State::absent};
  PanelCacheHead head = read_head(file, model, weights);
  const uint64_t n_all = head.header().data_bytes, data_offset = head.header().data_offset;
  HYBRID_CHECK(to == nullptr ||
               (to->n_bytes() == n_all && to->exponents.size() == head.header().n_panels));
  LoadStep step{to != nullptr ? LoadActivity::read_cache : LoadActivity::check_cache, 0, n_all};
  step.cache = path;
  for_chunks(workers, step, progress, [&](uint64_t chunk) {
    thread_local std::vector<std::byte> scratch;
    const uint64_t at = chunk * kPanelCacheChunkBytes, n = chunk_bytes(chunk, n_all);
    const bool is_direct = to != nullptr && to->pieces.empty();
    if (!is_direct) scratch.resize(kPanelCacheChunkBytes);
    const std::span<std::byte> bytes =
        is_direct ? to->panels.subspan(at, n) : std::span(scratch).first(n);
    file.read(data_offset + at, bytes);
    if (hash_bytes(bytes, chunk) != head.chunk_hashes()[chunk]) {
      refuse("it is damaged (wrong checksum of the 2 MiB at byte {})", data_offset + at);
    }
    if (to != nullptr && !is_direct) to->store(at, bytes);
  });
  if (to != nullptr) std::ranges::copy(head.exponents(), to->exponents.begin());
  step.n_done = n_all;
  step.finished = true;
  if (progress) progress(step);
  return {};
} catch (const Unusable& unusable) {
  return {PanelCacheStatus::State::unusable, unusable.reason};
}

/// What was packed is still what lies on the disk.
void check_unchanged(const GgufFile& model) {
  for (const GgufFile::Part& part : model.parts()) {
    const MappedFile now = MappedFile::open(part.path);
    if (now.n_bytes() == part.n_bytes && now.mtime_ns() == part.mtime_ns) continue;
    fail("{}: the file changed while its cache was written; try again",
         printable(part.path.string(), 4096));
  }
}

}  // namespace

void PanelMemory::store(uint64_t begin, std::span<const std::byte> bytes) const {
  const auto after = std::upper_bound(pieces.begin(), pieces.end(), begin,
                                      [](uint64_t at, const Piece& p) { return at < p.begin; });
  for (auto piece = after - 1; !bytes.empty(); ++piece) {
    const std::span<std::byte> to = piece->bytes.subspan(begin - piece->begin);
    const size_t n = std::min(to.size(), bytes.size());
    std::copy_n(bytes.begin(), n, to.begin());
    begin += n;
    bytes = bytes.subspan(n);
  }
}

PanelCacheStatus read_panel_cache(const fs::path& path, const GgufFile& model,
                                  const std::vector<const Weight*>& weights, const PanelMemory& to,
                                  Workers& workers, const LoadProgress& progress) {
  return read_all(path, model, weights, &to, workers, progress);
}

PanelCacheStatus check_panel_cache(const fs::path& path, const GgufFile& model,
                                   const std::vector<const Weight*>& weights, Workers& workers,
                                   const LoadProgress& progress) {
  return read_all(path, model, weights, nullptr, workers, progress);
}

PanelCacheWriter::PanelCacheWriter(const std::vector<fs::path>& paths, const GgufFile& model,
                                   const std::vector<const Weight*>& weights)
    : model_(model), head_(model, weights), file_(paths) {
  file_.reserve(head_.header().data_offset + head_.header().data_bytes);
}

void PanelCacheWriter::write(const PanelMemory& from, Workers& workers,
                             const LoadProgress& progress) {
  const uint64_t n_all = head_.header().data_bytes, data_offset = head_.header().data_offset;
  HYBRID_CHECK(from.pieces.empty() && from.panels.size() == n_all);
  HYBRID_CHECK(from.exponents.size() == head_.header().n_panels);
  const std::span<uint64_t> hashes = head_.chunk_hashes();
  LoadStep step{LoadActivity::write_cache, 0, n_all, false, path()};
  const LoadProgress after_slice = [&](const LoadStep& now) {
    file_.begin_sync();
    if (progress) progress(now);
  };
  for_chunks(workers, step, after_slice, [&](uint64_t chunk) {
    const uint64_t at = chunk * kPanelCacheChunkBytes;
    const auto bytes = from.panels.subspan(at, chunk_bytes(chunk, n_all));
    hashes[chunk] = hash_bytes(bytes, chunk);
    file_.write(data_offset + at, bytes);
  });
  std::ranges::copy(from.exponents, head_.exponents().begin());
  head_.seal();
  file_.write(0, head_.bytes());
  file_.sync();
  check_unchanged(model_);
  step.n_done = n_all;
  if (progress) progress(step);  // the last chance to be interrupted
  file_.commit();
  step.finished = true;
  if (progress) progress(step);
}

}  // namespace hybrid
