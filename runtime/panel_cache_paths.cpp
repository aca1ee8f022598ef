#include <span>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/hash.h"
#include "runtime/panel_cache.h"
#include "runtime/user_cache.h"
#include "tensor/gguf_split.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kExtension = ".panels";

fs::path first_part(const fs::path& model) {
  const auto name = parse_split_name(model.filename().string());
  if (!name) return model;
  return model.parent_path() / format_split_name({name->prefix, 0, name->n_parts});
}

/// Tells models of the same name in different folders apart.
std::string folder_hash(const fs::path& model) {
  std::error_code ignored;
  const std::string folder = fs::absolute(model, ignored).lexically_normal().parent_path().string();
  return fmt::format("{:016x}", hash_bytes(std::as_bytes(std::span(folder)), 0));
}

}  // namespace

std::vector<fs::path> panel_cache_paths(const fs::path& model) {
  const fs::path first = first_part(model);
  std::vector<fs::path> paths{first};
  paths.back() += kExtension;
  const fs::path folder = user_cache_folder();
  if (!folder.empty()) {
    paths.push_back(
        folder / fmt::format("{}-{}{}", first.filename().string(), folder_hash(first), kExtension));
  }
  return paths;
}

std::vector<fs::path> remove_panel_caches(const fs::path& model) {
  std::vector<fs::path> removed;
  for (const fs::path& cache : panel_cache_paths(model)) {
    for (const fs::path& path : {cache, AtomicFile::part_path(cache)}) {
      std::error_code error;
      const bool was_there = fs::remove(path, error);
      if (error) fail("{}: cannot delete: {}", printable(path.string(), 4096), error.message());
      if (was_there) removed.push_back(path);
    }
  }
  return removed;
}

}  // namespace hybrid
