#pragma once
// Runs a test case once for each instruction set level that this processor has.

#include <doctest/doctest.h>

#include <vector>

#include "tensor/simd_level.h"

namespace hybrid::test {

/// Puts a level in force and the old one back at the end.
class LevelScope {
 public:
  LevelScope() : before_(simd_level()) {}
  ~LevelScope() { set_simd_level(before_); }
  LevelScope(const LevelScope&) = delete;
  LevelScope& operator=(const LevelScope&) = delete;

  /// False where the processor lacks it.
  bool set(SimdLevel level) {
    if (!missing_for(level).empty()) return false;
    set_simd_level(level);
    return true;
  }

 private:
  SimdLevel before_;
};

/// Those of this processor, for tests that share a reference between them.
inline std::vector<SimdLevel> simd_levels() {
  std::vector<SimdLevel> levels;
  for (const SimdLevel level :
       {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512_vnni, SimdLevel::amx}) {
    if (missing_for(level).empty()) levels.push_back(level);
  }
  return levels;
}

}  // namespace hybrid::test

/// First line of a test case. What follows runs at the scalar level, then at avx2, ... Ops that the
/// matrix units do not serve are at amx what they are at avx512_vnni (with_simd_level).
#define HYBRID_AT_EACH_SIMD_LEVEL()                                 \
  hybrid::test::LevelScope level_scope;                             \
  SUBCASE("scalar") { level_scope.set(hybrid::SimdLevel::scalar); } \
  SUBCASE("avx2") {                                                 \
    if (!level_scope.set(hybrid::SimdLevel::avx2)) return;          \
  }                                                                 \
  SUBCASE("avx512_vnni") {                                          \
    if (!level_scope.set(hybrid::SimdLevel::avx512_vnni)) return;   \
  }                                                                 \
  SUBCASE("amx") {                                                  \
    if (!level_scope.set(hybrid::SimdLevel::amx)) return;           \
  }
