#pragma once
// Where the golden data lies, and how to read its raw arrays.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hybrid::test {

/// The golden data is not part of the repository. False where it is absent; a test then says so
/// with a doctest MESSAGE and returns. With HYBRID_REQUIRE_GOLDEN=1 in the environment absence is
/// an error.
bool have_golden();

std::filesystem::path golden(const std::string& relative);

std::string read_text(const std::filesystem::path& file);

template <class T>
std::vector<T> read_array(const std::filesystem::path& file) {
  const std::string bytes = read_text(file);
  std::vector<T> values(bytes.size() / sizeof(T));
  __builtin_memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace hybrid::test

/// First line of a test case that needs the golden data.
#define HYBRID_NEEDS_GOLDEN()                                 \
  if (!hybrid::test::have_golden()) {                         \
    MESSAGE("skipped: no golden data at " HYBRID_GOLDEN_DIR); \
    return;                                                   \
  }
