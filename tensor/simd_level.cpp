#include "tensor/simd_level.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "tensor/amx_permission.h"

namespace hybrid {
namespace {

constexpr SimdLevel kLevels[] = {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512_vnni,
                                 SimdLevel::amx};

#if defined(__x86_64__)
/// clang 14's __builtin_cpu_supports does not know this name.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

#if defined(__x86_64__)
struct CpuidWord {
  unsigned leaf, subleaf;
  char reg;  // 'a' or 'd'
  unsigned bit;
};

bool has_bit(const CpuidWord& word) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(word.leaf, word.subleaf, &a, &b, &c, &d) == 0) return false;
  return ((word.reg == 'a' ? a : d) >> word.bit & 1) != 0;
}

/// The compilers' builtins of our oldest versions do not know these.
void add_missing_for_amx(std::vector<std::string>& missing) {
  constexpr std::pair<const char*, CpuidWord> kFeatures[] = {
      {"amx_bf16", {7, 0, 'd', 22}},   {"avx512_fp16", {7, 0, 'd', 23}},
      {"amx_tile", {7, 0, 'd', 24}},   {"amx_int8", {7, 0, 'd', 25}},
      {"avx512_bf16", {7, 1, 'a', 5}},
  };
  const size_t n_before = missing.size();
  for (const auto& [name, word] : kFeatures) {
    if (!has_bit(word)) missing.emplace_back(name);
  }
  if (missing.size() > n_before) return;
  if (const std::string refusal = request_amx_permission(); !refusal.empty()) {
    missing.push_back(refusal);
  }
}
#endif

std::vector<std::string> missing_features(SimdLevel level) {
  std::vector<std::string> missing;
#if defined(__x86_64__)
  // The builtins also ask the kernel (XGETBV) whether it saves the wide registers.
  const std::pair<const char*, bool> avx2[] = {
      {"avx2", __builtin_cpu_supports("avx2")},
      {"fma", __builtin_cpu_supports("fma")},
      {"f16c", has_f16c()},
  };
  const std::pair<const char*, bool> avx512[] = {
      {"avx512f", __builtin_cpu_supports("avx512f")},
      {"avx512bw", __builtin_cpu_supports("avx512bw")},
      {"avx512dq", __builtin_cpu_supports("avx512dq")},
      {"avx512vl", __builtin_cpu_supports("avx512vl")},
      {"avx512_vnni", __builtin_cpu_supports("avx512vnni")},
  };
  if (level >= SimdLevel::avx2) {
    for (const auto& [name, there] : avx2) {
      if (!there) missing.emplace_back(name);
    }
  }
  if (level >= SimdLevel::avx512_vnni) {
    for (const auto& [name, there] : avx512) {
      if (!there) missing.emplace_back(name);
    }
  }
  if (level >= SimdLevel::amx) add_missing_for_amx(missing);
#else
  if (level != SimdLevel::scalar) missing.emplace_back("the x86-64 architecture");
#endif
  return missing;
}

std::atomic<SimdLevel>& level_in_force() {
  static std::atomic<SimdLevel> level{best_simd_level()};
  return level;
}

}  // namespace

std::string_view name_of(SimdLevel level) {
  switch (level) {
    case SimdLevel::avx2:
      return "avx2";
    case SimdLevel::avx512_vnni:
      return "avx512_vnni";
    case SimdLevel::amx:
      return "amx";
    default:
      return "scalar";
  }
}

std::optional<SimdLevel> find_simd_level(std::string_view name) {
  for (const SimdLevel level : kLevels) {
    if (name_of(level) == name) return level;
  }
  return std::nullopt;
}

std::string missing_for(SimdLevel level) { return join(missing_features(level), ", "); }

SimdLevel best_simd_level() {
  SimdLevel best = SimdLevel::scalar;
  for (const SimdLevel level : kLevels) {
    if (missing_features(level).empty()) best = level;
  }
  return best;
}

std::string simd_level_reason() {
  const SimdLevel best = best_simd_level();
  if (simd_level() != best) return "forced";
  if (best == SimdLevel::amx) return "the best of this CPU";
  const auto next = static_cast<SimdLevel>(static_cast<int>(best) + 1);
  return fmt::format("the best of this CPU; {} lacks {}", name_of(next), missing_for(next));
}

SimdLevel simd_level() { return level_in_force().load(std::memory_order_relaxed); }

void set_simd_level(SimdLevel level) {
  if (const std::string missing = missing_for(level); !missing.empty()) {
    fail("--isa {}: this processor lacks {}; the best it has is {}", name_of(level), missing,
         name_of(best_simd_level()));
  }
  level_in_force() = level;
}

void assume_simd_level(SimdLevel level) { level_in_force() = level; }

}  // namespace hybrid
