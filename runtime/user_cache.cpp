#include "runtime/user_cache.h"

#include <cstdlib>

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

}  // namespace hybrid
