#pragma once
// Bytes of one GGUF file (v2 or v3, little endian) to metadata and tensor descriptions. No I/O, and
// nothing in the bytes is trusted: counts, lengths, offsets, overflow, overlapping tensors,
// duplicate names are all checked, and no allocation is larger than the bytes can justify.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/gguf_metadata.h"

namespace hybrid {

struct GgufTensorInfo {
  std::string name;
  DType type = DType::f32;
  uint32_t n_dims = 0;                     // as in the file, 1 to 4
  std::array<uint64_t, 4> ne{1, 1, 1, 1};  // ne[0] contiguous; unused dimensions are 1
  uint64_t offset = 0;                     // from the start of the file
  uint64_t n_bytes = 0;
};

struct GgufHeader {
  uint32_t version = 0;
  uint32_t alignment = 32;
  uint64_t data_offset = 0;  // where the tensor data begins in the file
  GgufMetadata metadata;
  std::vector<GgufTensorInfo> tensors;  // in file order
};

struct GgufReadOptions {
  std::string source;       // the file's name, for errors (already printable)
  uint64_t file_bytes = 0;  // size of the whole file; `bytes` may be just its beginning
  // False: tensors may lie beyond file_bytes, as in a file of headers alone (a plan needs no more).
  bool data_required = true;
};

/// Accepts what the format allows and gguf-split and the converters write: versions 2 and 3, little
/// endian; alignment a power of two from 8 to 2^20 (32 without the key); tensor names of 1 to 127
/// bytes and keys of 1 to 65535 bytes in UTF-8; string values of any bytes; arrays nested at most 4
/// deep; 1 to 4 dimensions; data in any order, aligned, with gaps but no overlap. The header must
/// end within 256 MiB. Everything else throws Error (one line: file, tensor or key, expected,
/// found).
GgufHeader read_gguf_header(std::span<const std::byte> bytes, const GgufReadOptions& options);

}  // namespace hybrid
