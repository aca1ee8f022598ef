#pragma once
// A sequence kept in a file: its tokens and their rows of the cache, so that a long prompt is
// computed once. Little endian, fields aligned to their size.
//
//    0     SequenceFileHeader
//    160   int32 [n_tokens]        the tokens
//    ..    uint64 [n_layers]       hash of each layer's rows, on the next multiple of 8
//    ..    the rows, layer after layer, as KvCache::spans(n_tokens) gives them, without gaps
//
// Every byte is covered by a hash (base/hash.h): the header by its own, tokens and hashes by the
// header's, the rows by their layer's. The file ends with the last row.

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "base/atomic_file.h"
#include "runtime/sequence.h"

namespace hybrid {

inline constexpr char kSequenceFileMagic[9] = "HYBRIDKV";
inline constexpr uint32_t kSequenceFileVersion = 1;

///   0 magic | 8 version | 12 mla: the mode that wrote it, for people
///  16 model_bytes: of all its files | 24 model_hash (runtime/model_identity.h)
///  32 n_groups | 36 n_groups_used: the experts' groups; other routing is another model
///  40 n_layers | 44 n_heads of the cache | 48 key, value: {type: GGUF's number, n, n_exact}
///  72 transposed: 1 where the latents lie there once more | 76 n_tokens
///  80 data_bytes: of all rows | 88 body_hash: of the bytes between header and rows
///  96 zeros | 152 header_hash: of the bytes before it
struct SequenceFileHeader {
  struct Row {
    uint32_t type;
    uint32_t n;
    uint32_t n_exact;
  };
  char magic[8];
  uint32_t version;
  uint32_t mla;
  uint64_t model_bytes;
  uint64_t model_hash;
  uint32_t n_groups;
  uint32_t n_groups_used;
  uint32_t n_layers;
  uint32_t n_heads;
  Row key;
  Row value;
  uint32_t transposed;
  uint32_t n_tokens;
  uint64_t data_bytes;
  uint64_t body_hash;
  uint8_t reserved[56];
  uint64_t header_hash;
};
static_assert(sizeof(SequenceFileHeader) == 160 && offsetof(SequenceFileHeader, mla) == 12 &&
              offsetof(SequenceFileHeader, model_hash) == 24 &&
              offsetof(SequenceFileHeader, n_layers) == 40 &&
              offsetof(SequenceFileHeader, key) == 48 &&
              offsetof(SequenceFileHeader, transposed) == 72 &&
              offsetof(SequenceFileHeader, data_bytes) == 80 &&
              offsetof(SequenceFileHeader, header_hash) == 152);

/// Puts what the file holds in the place of what the sequence holds. False where there is no such
/// file. Modes whose caches have the same rows (-mla 1 with flash, 2 and 3) read each other's
/// files. Throws Error, and the sequence is then empty, for a file of another model or other
/// routing, of another kind of cache or version, with more tokens than the context, cut short or
/// damaged; says what was expected, what was found and what to do. Needs no prepared weights.
bool restore_sequence(const std::filesystem::path& path, Sequence& sequence);

/// Writes a sequence's file; it appears whole or not at all.
class SequenceFileWriter {
 public:
  /// Opens PATH.part and holds it, locked: what cannot be written, or is being written by another
  /// process, is known (Error) before anything is computed. The folder must be there; a link is
  /// followed; what is there must be a file.
  explicit SequenceFileWriter(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }

  /// Once. Throws Error (a full disk).
  void write(Sequence& sequence);

 private:
  AtomicFile file_;
};

}  // namespace hybrid
