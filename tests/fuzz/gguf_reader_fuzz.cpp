// Any bytes as a GGUF: the reader either throws Error or returns what keeps its promises.

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "tensor/gguf_reader.h"
#include "tensor/gguf_split.h"

using namespace hybrid;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

/// Errors are one line that begins with the file.
void check_message(const Error& error) {
  const std::string_view message = error.what();
  require(message.starts_with("fuzz: "));
  require(message.find('\n') == std::string_view::npos);
}

template <class Call>
void allow_error(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    check_message(error);
  }
}

void check_tensors(const GgufHeader& header, uint64_t file_bytes, bool data_required) {
  std::unordered_set<std::string_view> names;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const GgufTensorInfo& info : header.tensors) {
    require(names.insert(info.name).second);
    require(info.n_dims >= 1 && info.n_dims <= 4);
    require(info.offset >= header.data_offset && info.offset % header.alignment == 0);
    require(info.n_bytes > 0 && info.ne[0] % info_of(info.type).block_size == 0);
    require(info.n_bytes ==
            row_bytes(info.type, info.ne[0]) * info.ne[1] * info.ne[2] * info.ne[3]);
    if (data_required) require(info.offset + info.n_bytes <= file_bytes);
    ranges.emplace_back(info.offset, info.offset + info.n_bytes);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) require(ranges[i - 1].second <= ranges[i].first);
}

void use_metadata(const GgufMetadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    const std::string_view name = key;
    require(metadata.find(name) == &value && !describe(value).empty());
    allow_error([&] { (void)metadata.get_u32(name); });
    allow_error([&] { (void)metadata.find_u64(name); });
    allow_error([&] { (void)metadata.get_f32(name); });
    allow_error([&] { (void)metadata.find_bool(name); });
    allow_error([&] { (void)metadata.get_string(name); });
    allow_error([&] { (void)metadata.find_strings(name); });
    allow_error([&] { (void)metadata.find_ints(name); });
    allow_error([&] { (void)metadata.find_floats(name); });
  }
  allow_error([&] { (void)read_split_keys(metadata); });
  allow_error([&] { check_split_tensor_count(metadata, 3); });
}

void read(std::span<const std::byte> bytes, uint64_t file_bytes, bool data_required) {
  allow_error([&] {
    const GgufHeader header = read_gguf_header(bytes, {"fuzz", file_bytes, data_required});
    check_tensors(header, file_bytes, data_required);
    use_metadata(header.metadata);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  read(bytes, size, true);
  read(bytes, size, false);
  read(bytes, uint64_t{1} << 50, true);
  return 0;
}
