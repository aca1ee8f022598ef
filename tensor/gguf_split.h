#pragma once
// How models in several files are named and what their keys say, as gguf-split writes them:
// name-00002-of-00003.gguf holds split.no = 1, split.count = 3 and split.tensors.count, the number
// of tensors in all parts together. Only the first part carries the model's metadata.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/gguf_reader.h"

namespace hybrid {

struct SplitName {
  std::string prefix;  // what stands before "-00002-of-00003.gguf"
  uint32_t part = 0;   // from 0
  uint32_t n_parts = 0;
};

/// Nothing where a file name (without folder) is not that of a part.
std::optional<SplitName> parse_split_name(std::string_view file_name);

/// "prefix-00002-of-00003.gguf" for part 1 of 3.
std::string format_split_name(const SplitName& name);

/// What split.no and split.count say: {0, 1} where the file has neither.
struct SplitKeys {
  uint32_t part = 0;
  uint32_t n_parts = 1;
};
SplitKeys read_split_keys(const GgufMetadata& metadata);

/// The parts of the model that `path`, whose metadata is given, belongs to, in order: `path` alone
/// where it is no part. Throws where name and keys disagree or a part does not exist.
std::vector<std::filesystem::path> list_parts(const std::filesystem::path& path,
                                              const GgufMetadata& metadata);

/// Throws where split.tensors.count, if it is there, is not n_tensors.
void check_split_tensor_count(const GgufMetadata& metadata, uint64_t n_tensors);

}  // namespace hybrid
