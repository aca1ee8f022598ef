#include "runtime/demo_model.h"

#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {

std::filesystem::path demo_model_path() {
  namespace fs = std::filesystem;
  constexpr const char* kFile = "hybrid-run-demo.gguf";
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path places[] = {
      program.parent_path().parent_path() / "share/hybrid-run" / kFile,
      fs::path(HYBRID_INSTALL_DATADIR) / kFile,
      fs::path(HYBRID_SOURCE_DIR) / "models/demo" / kFile,
  };
  std::vector<std::string> tried;
  for (const fs::path& place : places) {
    if (fs::exists(place, ignored)) return place;
    tried.push_back(place.string());
  }
  fail("the demo model is not installed; looked for {}", join(tried, ", "));
}

}  // namespace hybrid
