#include "runtime/user_cache.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>

#include "base/atomic_file.h"

namespace hybrid {
namespace fs = std::filesystem;

fs::path user_cache_folder() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && fs::path(xdg).is_absolute()) return fs::path(xdg) / "hybrid-run";
  const char* home = std::getenv("HOME");
  if (home != nullptr && fs::path(home).is_absolute()) {
    return fs::path(home) / ".cache" / "hybrid-run";
  }
  return {};
}

fs::path user_cache_path(const std::string& name) {
  const fs::path folder = user_cache_folder();
  return folder.empty() ? folder : folder / name;
}

fs::path store_in_user_cache(const std::string& name, const nlohmann::ordered_json& json) {
  const fs::path path = user_cache_path(name);
  if (path.empty()) fail("the environment names no cache folder: set XDG_CACHE_HOME or HOME");
  const std::string text = json.dump(2) + "\n";
  AtomicFile file({path});
  file.write(0, std::as_bytes(std::span(text)));
  file.sync();
  file.commit();
  return path;
}

}  // namespace hybrid
