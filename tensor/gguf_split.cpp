#include "tensor/gguf_split.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr std::string_view kExtension = ".gguf";
constexpr std::string_view kBetween = "-of-";
constexpr size_t kDigits = 5;

/// Takes `tail` off the end of `text`; false where it does not stand there.
bool take_tail(std::string_view& text, std::string_view tail) {
  if (!text.ends_with(tail)) return false;
  text.remove_suffix(tail.size());
  return true;
}

/// Takes five digits off the end of `text`.
std::optional<uint32_t> take_number(std::string_view& text) {
  if (text.size() < kDigits) return std::nullopt;
  uint32_t value = 0;
  for (const char c : text.substr(text.size() - kDigits)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  text.remove_suffix(kDigits);
  return value;
}

[[noreturn]] void fail_name(const GgufMetadata& metadata, const SplitKeys& keys) {
  fail(
      "{}: expected a file name that ends in {}, as its keys say, found another; give all parts "
      "the "
      "names they had when the model was split",
      metadata.source(), format_split_name({"", keys.part, keys.n_parts}));
}

}  // namespace

std::optional<SplitName> parse_split_name(std::string_view file_name) {
  std::string_view rest = file_name;
  if (!take_tail(rest, kExtension)) return std::nullopt;
  const std::optional<uint32_t> n_parts = take_number(rest);
  if (!n_parts || !take_tail(rest, kBetween)) return std::nullopt;
  const std::optional<uint32_t> number = take_number(rest);
  if (!number || !take_tail(rest, "-")) return std::nullopt;
  if (*number < 1 || *number > *n_parts) return std::nullopt;
  return SplitName{std::string(rest), *number - 1, *n_parts};
}

std::string format_split_name(const SplitName& name) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", name.prefix, name.part + 1, name.n_parts);
}

SplitKeys read_split_keys(const GgufMetadata& metadata) {
  const std::optional<uint32_t> count = metadata.find_u32("split.count");
  const std::optional<uint32_t> number = metadata.find_u32("split.no");
  // gguf-split leaves a count of 0 in a file that it merged.
  const SplitKeys keys{number.value_or(0), std::max(count.value_or(1), 1u)};
  if (keys.part >= keys.n_parts) {
    fail("{}: key 'split.no': expected a part from 0 to {}, as 'split.count' says, found {}",
         metadata.source(), keys.n_parts - 1, keys.part);
  }
  return keys;
}

std::vector<std::filesystem::path> list_parts(const std::filesystem::path& path,
                                              const GgufMetadata& metadata) {
  const SplitKeys keys = read_split_keys(metadata);
  const std::optional<SplitName> name = parse_split_name(path.filename().string());
  if (keys.n_parts == 1) {
    if (name && name->n_parts > 1) {
      fail(
          "{}: expected the keys 'split.no' and 'split.count' of part {} of {}, as the name says, "
          "found those of a whole file; a file cut by other means than gguf-split must be joined",
          metadata.source(), name->part + 1, name->n_parts);
    }
    return {path};
  }
  if (!name || name->part != keys.part || name->n_parts != keys.n_parts) fail_name(metadata, keys);

  std::vector<std::filesystem::path> parts;
  for (uint32_t i = 0; i < keys.n_parts; ++i) {
    parts.push_back(path.parent_path() / format_split_name({name->prefix, i, keys.n_parts}));
    std::error_code ignored;
    if (std::filesystem::exists(parts.back(), ignored)) continue;
    fail("{}: expected part {} of {} of the model that {} belongs to, found no such file",
         printable(parts.back().string(), 4096), i + 1, keys.n_parts, metadata.source());
  }
  return parts;
}

void check_split_tensor_count(const GgufMetadata& metadata, uint64_t n_tensors) {
  const std::optional<uint64_t> expected = metadata.find_u64("split.tensors.count");
  if (expected && *expected != n_tensors) {
    fail("{}: expected {} tensors in all parts together, as 'split.tensors.count' says, found {}",
         metadata.source(), *expected, n_tensors);
  }
}

}  // namespace hybrid
