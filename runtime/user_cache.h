#pragma once
#include <filesystem>

namespace hybrid {

/// The program's folder in the user's cache: $XDG_CACHE_HOME/hybrid-run, or ~/.cache/hybrid-run.
/// Empty where the environment names neither as an absolute path. It need not be there.
std::filesystem::path user_cache_folder();

}  // namespace hybrid
