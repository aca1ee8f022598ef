#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <stdlib.h>

#include "tests/support/temp_dir.h"

/// Tests, and programs that they run, neither see nor write what the user keeps in the cache.
int main(int argc, char** argv) {
  const hybrid::test::TempDir cache;
  setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);
  return doctest::Context(argc, argv).run();
}
