// The tests of tests/cuda_host and tests/cuda_models on a GPU. Exit code 77, as ctest's skip, where
// there is none.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/cuda_gpu/gpu.h"

int main(int argc, char** argv) {
  const std::string why = hybrid::gpu::why_none();
  if (!why.empty()) {
    std::printf("skipped, nothing was tested: there is no GPU here: %s\n", why.c_str());
    return 77;
  }
  std::printf("on %s\n", hybrid::gpu::title().c_str());
  return doctest::Context(argc, argv).run();
}
