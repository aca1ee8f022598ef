#pragma once
// The file of packed weights, byte by byte. Little endian, fields aligned to their size.
//
//    0            PanelCacheHeader
//    128          PanelCachePart [n_parts]      the files that the weights were packed from
//    ..           PanelCacheWeight [n_weights]  in the order of packable_weights()
//    ..           uint64 [n_chunks]             hash of each chunk, seeded with its number
//    ..           int8 [n_panels]               the panels' exponents
//    ..           zeros up to data_offset, a multiple of 4096
//    data_offset  the panels of weight 0, of weight 1, ... without gaps (tensor/panel.h), cut into
//                 chunks of 2 MiB: a huge page of the memory that they are read into
//
// The order does not depend on threads, memory nodes or kernels. Every byte is covered by a hash
// (base/hash.h): the header by its own, the rest of the head by the header's, the data by chunks.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/gguf_file.h"
#include "tensor/weight.h"

namespace hybrid {

inline constexpr char kPanelCacheMagic[9] = "HYBPANEL";
inline constexpr uint32_t kPanelCacheVersion = 1;
inline constexpr uint64_t kPanelCacheChunkBytes = uint64_t{2} << 20;
inline constexpr uint64_t kPanelCacheAlignment = 4096;

///   0 magic | 8 version | 12 n_parts | 16 n_weights | 20 chunk_bytes
///  24 n_panels | 32 data_offset | 40 data_bytes
///  48 head_hash: of the bytes from 128 to data_offset
///  56 zeros | 120 header_hash: of the bytes before it
struct PanelCacheHeader {
  char magic[8];
  uint32_t version;
  uint32_t n_parts;
  uint32_t n_weights;
  uint32_t chunk_bytes;
  uint64_t n_panels;
  uint64_t data_offset;
  uint64_t data_bytes;
  uint64_t head_hash;
  uint8_t reserved[64];
  uint64_t header_hash;
};
static_assert(sizeof(PanelCacheHeader) == 128 && offsetof(PanelCacheHeader, version) == 8 &&
              offsetof(PanelCacheHeader, chunk_bytes) == 20 &&
              offsetof(PanelCacheHeader, n_panels) == 24 &&
              offsetof(PanelCacheHeader, head_hash) == 48 &&
              offsetof(PanelCacheHeader, header_hash) == 120);

///   0 n_bytes | 8 mtime_ns: when it was last modified
///  16 content_hash: part_hash() (runtime/model_identity.h)
struct PanelCachePart {
  uint64_t n_bytes;
  int64_t mtime_ns;
  uint64_t content_hash;
};
static_assert(sizeof(PanelCachePart) == 24 && offsetof(PanelCachePart, mtime_ns) == 8 &&
              offsetof(PanelCachePart, content_hash) == 16);

///   0 part | 4 type: GGUF's number | 8 source_offset: of its rows in the part
///  16 n_cols | 24 n_rows: of a matrix | 32 n_matrices
///  40 offset: of its panels in the data | 48 n_bytes
///  56 first_panel: of its exponents | 64 n_panels
struct PanelCacheWeight {
  uint32_t part;
  uint32_t type;
  uint64_t source_offset;
  uint64_t n_cols;
  uint64_t n_rows;
  uint64_t n_matrices;
  uint64_t offset;
  uint64_t n_bytes;
  uint64_t first_panel;
  uint64_t n_panels;
};
static_assert(sizeof(PanelCacheWeight) == 72 && offsetof(PanelCacheWeight, n_cols) == 16 &&
              offsetof(PanelCacheWeight, offset) == 40 &&
              offsetof(PanelCacheWeight, first_panel) == 56);

/// The head of a file: all before the data.
class PanelCacheHead {
 public:
  /// As it has to be for this model, with zeros for hashes of chunks and exponents. The weights'
  /// rows lie in the model's mapping. Reads the parts' metadata and a few samples of their data.
  PanelCacheHead(const GgufFile& model, const std::vector<const Weight*>& weights);

  const PanelCacheHeader& header() const { return *at<const PanelCacheHeader>(0); }
  uint64_t n_chunks() const;
  std::span<const PanelCachePart> parts() const;
  std::span<const PanelCacheWeight> weights() const;
  std::span<uint64_t> chunk_hashes();
  std::span<int8_t> exponents();

  /// All of it; `body` is what follows the header.
  std::span<const std::byte> bytes() const { return bytes_; }
  std::span<std::byte> body() { return std::span(bytes_).subspan(sizeof(PanelCacheHeader)); }

  /// Computes the head's hashes. What was put in before is now protected.
  void seal();

 private:
  template <class T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(const_cast<std::byte*>(bytes_.data()) + offset);
  }
  uint64_t weights_offset() const;
  uint64_t hashes_offset() const;
  uint64_t exponents_offset() const;
  void fill_parts(const GgufFile& model);
  void fill_weights(const GgufFile& model, const std::vector<const Weight*>& weights);

  std::vector<std::byte> bytes_;
};

/// The hash that header_hash has to be.
uint64_t hash_of(const PanelCacheHeader& header);

}  // namespace hybrid
