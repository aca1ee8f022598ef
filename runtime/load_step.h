#pragma once
// How far loading, or writing a cache, has come.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace hybrid {

enum class LoadActivity { pack, upload, read_cache, write_cache, check_cache };

struct LoadStep {
  LoadActivity activity = LoadActivity::pack;
  uint64_t n_done = 0;
  uint64_t n_all = 0;     // bytes of weights
  bool finished = false;  // n_done may be n_all before that
  std::filesystem::path cache = {};
  std::string device = {};  // of an upload
};

/// Told a few times a second, on the caller's thread; what it throws ends the activity.
using LoadProgress = std::function<void(const LoadStep&)>;

}  // namespace hybrid
