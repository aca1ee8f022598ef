#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace hybrid {

/// The program's folder in the user's cache: $XDG_CACHE_HOME/hybrid-run, or ~/.cache/hybrid-run.
/// Empty where the environment names neither as an absolute path. It need not be there.
std::filesystem::path user_cache_folder();

/// The file of that name in it; empty where there is no folder for it.
std::filesystem::path user_cache_path(const std::string& name);

/// Writes `json` whole, or not at all, and returns the path. Throws Error where it cannot be
/// written.
std::filesystem::path store_in_user_cache(const std::string& name,
                                          const nlohmann::ordered_json& json);

/// What a file in the cache gives.
template <typename T>
struct Cached {
  std::optional<T> value = {};
  std::string notice = {};  // why a file that is there is not used
};

/// read(path) where the file is there, valid (read throws Error if not) and `other(value)`, what
/// keeps it from being used, is empty. `command` is what writes it anew, for the notice.
template <typename Read, typename Other>
auto find_in_user_cache(const std::string& name, std::string_view command, const Read& read,
                        const Other& other) {
  Cached<decltype(read(std::filesystem::path()))> found;
  const std::filesystem::path path = user_cache_path(name);
  std::error_code ignored;
  if (path.empty() || !std::filesystem::exists(path, ignored)) return found;
  try {
    auto value = read(path);
    const std::string why = other(value);
    if (why.empty()) {
      found.value = std::move(value);
      return found;
    }
    found.notice = fmt::format("{} is not used: {}", printable(path.string(), 4096), why);
  } catch (const Error& error) {
    found.notice = error.what();
  }
  found.notice += fmt::format("; `{}` writes it anew", command);
  return found;
}

}  // namespace hybrid
