#include "tests/support/golden.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace hybrid::test {

bool have_golden() {
  if (std::filesystem::exists(golden("README.md"))) return true;
  const char* required = std::getenv("HYBRID_REQUIRE_GOLDEN");
  if (required != nullptr && *required == '1') {
    throw std::runtime_error("HYBRID_REQUIRE_GOLDEN=1, but there is no " HYBRID_GOLDEN_DIR);
  }
  return false;
}

std::filesystem::path golden(const std::string& relative) {
  return std::filesystem::path(HYBRID_GOLDEN_DIR) / relative;
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

}  // namespace hybrid::test
