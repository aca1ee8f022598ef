#include "runtime/sequence_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/units.h"
#include "runtime/model_identity.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

using Spans = std::vector<std::span<std::byte>>;  // of a layer

std::string shown(const fs::path& path) { return printable(path.string(), 4096); }

uint64_t hash_of(const SequenceFileHeader& header) {
  return hash_bytes(
      std::as_bytes(std::span(&header, 1)).first(offsetof(SequenceFileHeader, header_hash)),
      kSequenceFileVersion);
}

/// What lies between header and rows: tokens, then a hash for each layer.
struct Body {
  std::vector<TokenId> tokens;  // n_tokens, and zeros up to a multiple of 8 bytes
  std::vector<uint64_t> layer_hashes;

  Body(uint32_t n_tokens, uint32_t n_layers)
      : tokens((n_tokens + 1) / 2 * 2), layer_hashes(n_layers) {}

  uint64_t n_bytes() const {
    return tokens.size() * sizeof(TokenId) + layer_hashes.size() * sizeof(uint64_t);
  }
  uint64_t hash() const {
    const uint64_t first = hash_bytes(std::as_bytes(std::span(tokens)), kSequenceFileVersion);
    return hash_bytes(std::as_bytes(std::span(layer_hashes)), first);
  }
};

uint64_t hash_layer(const Spans& spans, uint32_t layer) {
  uint64_t hash = layer;
  for (const auto& span : spans) hash = hash_bytes(span, hash);
  return hash;
}

SequenceFileHeader::Row row_of(const CacheRow& row) {
  return {static_cast<uint32_t>(row.type), row.n, row.n_exact};
}

/// The header that a file of this sequence with so many tokens has, without its hashes.
SequenceFileHeader header_of(Sequence& sequence, uint32_t n_tokens) {
  const GgufFile& model = sequence.model().file();
  const MoeShape& moe = sequence.model().config().moe;
  const KvCache::Shape& cache = sequence.cache().shape();
  SequenceFileHeader h{};
  std::memcpy(h.magic, kSequenceFileMagic, sizeof(h.magic));
  h.version = kSequenceFileVersion;
  h.mla = static_cast<uint32_t>(sequence.plan().attention.options().mla);
  h.model_bytes = model.total_bytes();
  h.model_hash = model_hash(model);
  h.n_groups = moe.n_groups;
  h.n_groups_used = moe.n_groups_used;
  h.n_layers = cache.n_layers;
  h.n_heads = cache.n_heads;
  h.key = row_of(cache.key);
  h.value = row_of(cache.value);
  h.transposed = cache.transposed ? 1 : 0;
  h.n_tokens = n_tokens;
  return h;
}

/// "-mla 3 with f16 rows": what a person would type to get this cache.
std::string cache_text(const SequenceFileHeader& h) {
  const auto name = [](uint32_t type) { return cache_type_name(static_cast<DType>(type)); };
  std::string text = fmt::format("-mla {} -ctk {}", h.mla, name(h.key.type));
  if (h.value.n > 0) text += fmt::format(" -ctv {}", name(h.value.type));
  if (h.transposed != 0) text += " -fa 0";
  return text;
}

bool same_cache(const SequenceFileHeader& a, const SequenceFileHeader& b) {
  return a.n_layers == b.n_layers && a.n_heads == b.n_heads && a.transposed == b.transposed &&
         std::memcmp(&a.key, &b.key, sizeof(a.key)) == 0 &&
         std::memcmp(&a.value, &b.value, sizeof(a.value)) == 0;
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path) {
    // A pipe would wait for a writer.
    fd_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd_.is_open() && errno == ENOENT) return;
    struct stat info {};
    if (!fd_.is_open() || fstat(fd_.get(), &info) != 0) {
      fail("{}: cannot read the saved sequence: {}", shown(path_), std::strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
      fail("{}: expected a file with a saved sequence, found {}", shown(path_),
           S_ISDIR(info.st_mode) ? "a folder" : "something else");
    }
    n_bytes_ = static_cast<uint64_t>(info.st_size);
  }

  bool exists() const { return fd_.is_open(); }
  uint64_t n_bytes() const { return n_bytes_; }

  void read(std::span<std::byte> to) {
    while (!to.empty()) {
      const ssize_t n = pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(at_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("{}: cannot read: {}", shown(path_), std::strerror(errno));
      if (n == 0) damaged(fmt::format("it ends at byte {}", at_));
      at_ += static_cast<uint64_t>(n);
      to = to.subspan(static_cast<size_t>(n));
    }
  }

  [[noreturn]] void damaged(const std::string& what) const {
    fail("{}: the saved sequence is damaged ({}); delete it, and the next run saves it anew",
         shown(path_), what);
  }

  [[noreturn]] void refuse(const std::string& expected, const std::string& found,
                           const std::string& advice) const {
    fail("{}: expected a saved sequence {}, found one {}; {}", shown(path_), expected, found,
         advice);
  }

  SequenceFileHeader read_header() {
    SequenceFileHeader h;
    if (n_bytes_ < sizeof(h.magic) + sizeof(h.version)) damaged(fmt::format("{} bytes", n_bytes_));
    read(std::as_writable_bytes(std::span(&h, 1)).first(std::min<uint64_t>(n_bytes_, sizeof(h))));
    if (std::memcmp(h.magic, kSequenceFileMagic, sizeof(h.magic)) != 0) {
      fail("{}: expected a saved sequence, found another kind of file; choose another name",
           shown(path_));
    }
    if (n_bytes_ >= sizeof(h) && h.version == kSequenceFileVersion && h.header_hash != hash_of(h)) {
      damaged("wrong checksum of the header");
    }
    if (h.version != kSequenceFileVersion) {
      refuse(fmt::format("of version {}", kSequenceFileVersion),
             fmt::format("of version {}", h.version),
             "delete it, or use the program that wrote it");
    }
    if (n_bytes_ < sizeof(h)) damaged(fmt::format("it ends at byte {}", n_bytes_));
    return h;
  }

 private:
  fs::path path_;
  Descriptor fd_;
  uint64_t n_bytes_ = 0;
  uint64_t at_ = 0;
};

void check_belongs(const Reader& file, const SequenceFileHeader& found,
                   const SequenceFileHeader& expected, uint32_t n_ctx) {
  const auto model_text = [](const SequenceFileHeader& h) {
    return fmt::format("of a model of {} bytes, hash {:016x}", h.model_bytes, h.model_hash);
  };
  if (found.model_bytes != expected.model_bytes || found.model_hash != expected.model_hash) {
    file.refuse(model_text(expected), model_text(found), "choose its model, or another file");
  }
  if (found.n_groups != expected.n_groups || found.n_groups_used != expected.n_groups_used) {
    const auto text = [](const SequenceFileHeader& h) {
      return fmt::format("with experts in {} of {} groups", h.n_groups_used, h.n_groups);
    };
    file.refuse(text(expected), text(found), "change --expert-groups, or choose another file");
  }
  if (!same_cache(found, expected)) {
    file.refuse("for " + cache_text(expected), "of " + cache_text(found),
                "run with those options, or choose another file");
  }
  if (found.n_tokens > n_ctx) {
    file.refuse(fmt::format("of at most {} tokens, the context", n_ctx),
                fmt::format("of {}", found.n_tokens),
                fmt::format("raise -c to {} or more, or choose another file", found.n_tokens));
  }
}

}  // namespace

bool restore_sequence(const fs::path& path, Sequence& sequence) {
  Reader file(path);
  if (!file.exists()) return false;
  sequence.truncate(0);
  const SequenceFileHeader h = file.read_header();
  check_belongs(file, h, header_of(sequence, h.n_tokens), sequence.n_ctx());

  SequenceCache& cache = sequence.cache();
  const uint64_t n_bytes = cache.n_bytes_of(h.n_tokens);
  Body body(h.n_tokens, h.n_layers);
  const uint64_t n_expected = sizeof(h) + body.n_bytes() + n_bytes;
  if (h.data_bytes != n_bytes || file.n_bytes() != n_expected) {
    file.damaged(fmt::format("expected {} bytes, found {}", n_expected, file.n_bytes()));
  }
  file.read(std::as_writable_bytes(std::span(body.tokens)));
  file.read(std::as_writable_bytes(std::span(body.layer_hashes)));
  if (body.hash() != h.body_hash) file.damaged("wrong checksum of the tokens");
  const auto n_vocab = static_cast<TokenId>(sequence.model().config().n_vocab);
  for (const TokenId id : body.tokens) {
    if (id < 0 || id >= n_vocab) file.damaged(fmt::format("token id {}", id));
  }
  for (uint32_t layer = 0; layer < h.n_layers; ++layer) {
    const Spans spans = cache.rows_to_write(layer, h.n_tokens);
    for (const auto& span : spans) file.read(span);
    if (hash_layer(spans, layer) != body.layer_hashes[layer]) {
      file.damaged(fmt::format("wrong checksum of layer {}", layer));
    }
    cache.put_rows(layer, h.n_tokens);
  }
  body.tokens.resize(h.n_tokens);
  sequence.set_tokens(std::move(body.tokens));
  return true;
}

namespace {

/// Where the file is to be: `path`, or what the link leads to.
fs::path target_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status)) {
      fail("{}: expected the name of a file for the saved sequence, found {}", shown(path),
           fs::is_directory(status) ? "a folder" : "something else");
    }
    return fs::canonical(path);
  }
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error)) {
    fail("{}: the folder for the saved sequence does not exist; create it, or choose another",
         shown(folder));
  }
  return path;
}

}  // namespace

SequenceFileWriter::SequenceFileWriter(const fs::path& path) : file_({target_of(path)}) {}

void SequenceFileWriter::write(Sequence& sequence) {
  const auto n_tokens = static_cast<uint32_t>(sequence.tokens().size());
  SequenceFileHeader h = header_of(sequence, n_tokens);
  SequenceCache& cache = sequence.cache();
  Body body(n_tokens, h.n_layers);
  std::ranges::copy(sequence.tokens(), body.tokens.begin());
  for (uint32_t i = 0; i < h.n_layers; ++i) {
    body.layer_hashes[i] = hash_layer(cache.rows(i, n_tokens), i);
  }
  h.data_bytes = cache.n_bytes_of(n_tokens);
  h.body_hash = body.hash();
  h.header_hash = hash_of(h);

  file_.reserve(sizeof(h) + body.n_bytes() + h.data_bytes);
  uint64_t at = 0;
  const auto write = [&](std::span<const std::byte> bytes) {
    file_.write(at, bytes);
    at += bytes.size();
  };
  write(std::as_bytes(std::span(&h, 1)));
  write(std::as_bytes(std::span(body.tokens)));
  write(std::as_bytes(std::span(body.layer_hashes)));
  for (uint32_t i = 0; i < h.n_layers; ++i) {
    for (const auto& span : cache.rows(i, n_tokens)) write(span);
  }
  file_.sync();
  file_.commit();
}

}  // namespace hybrid
