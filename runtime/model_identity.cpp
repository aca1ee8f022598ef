#include "runtime/model_identity.h"

#include <algorithm>

#include "base/hash.h"
#include "tensor/mapped_file.h"

namespace hybrid {
namespace {

uint64_t header_bytes(const GgufFile& model, size_t part) {
  uint64_t n = model.parts()[part].n_bytes;
  for (const GgufTensor& tensor : model.tensors()) {
    if (tensor.part == part) n = std::min(n, tensor.info.offset);
  }
  return n;
}

}  // namespace

uint64_t part_hash(const GgufFile& model, size_t part) {
  constexpr uint64_t kSamples = 64, kSampleBytes = 4096;
  const std::span<const std::byte> bytes = model.part_bytes(part);
  const uint64_t n_header_bytes = header_bytes(model, part);
  const std::span<const std::byte> data = bytes.subspan(n_header_bytes);
  uint64_t hash = hash_bytes(bytes.first(n_header_bytes), 0);
  if (data.size() <= kSamples * kSampleBytes) {
    hash = hash_bytes(data, hash);
  } else {
    for (uint64_t i = 0; i < kSamples; ++i) {
      const uint64_t at = (data.size() - kSampleBytes) / (kSamples - 1) * i;
      hash = hash_bytes(data.subspan(at, kSampleBytes), hash);
    }
  }
  release_pages(bytes);
  return hash;
}

uint64_t model_hash(const GgufFile& model) {
  uint64_t hash = 0;
  for (size_t i = 0; i < model.parts().size(); ++i) {
    const uint64_t words[] = {model.parts()[i].n_bytes, part_hash(model, i)};
    hash = hash_bytes(std::as_bytes(std::span(words)), hash);
  }
  return hash;
}

}  // namespace hybrid
