#pragma once
// Which instruction set the CPU kernels use: chosen once, at run time, for the whole process.
//
// A kernel is `template <SimdLevel L>`, instantiated in its op_<level>.cpp; only those files are
// compiled with instruction set flags. An op looks up its kernel once per call:
//   with_simd_level([&]<SimdLevel L>() { matmul_rows_at<L>(args, begin, end); });

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

enum class SimdLevel {
  scalar,       // portable C++, what the compiler makes of it for any processor
  avx2,         // AVX2, FMA, F16C
  avx512_vnni,  // AVX-512 F, BW, DQ, VL, VNNI
  amx,          // AMX tiles with int8 and bf16, AVX-512 FP16 and BF16; the kernel's permission
};

std::string_view name_of(SimdLevel level);
std::optional<SimdLevel> find_simd_level(std::string_view name);

/// What is missing for a level, "" where all is there. For amx this asks the kernel, once, for the
/// tile registers; a refusal is one of the things that may be missing.
std::string missing_for(SimdLevel level);

/// The highest level of this processor.
SimdLevel best_simd_level();

/// The level in force: best_simd_level() until set_simd_level() was called.
SimdLevel simd_level();

/// Why the level in force is what it is: "the best of this CPU", "forced by --isa", or what the
/// next one lacks.
std::string simd_level_reason();

/// Throws Error where the processor lacks the level. Not to be called while kernels run.
void set_simd_level(SimdLevel level);

/// Takes the level of another machine, which this processor may lack: for plans of what would run
/// there. No kernel may run afterwards.
void assume_simd_level(SimdLevel level);

/// Calls f.operator()<L>() for the level in force. At amx that of avx512_vnni: the matrix units
/// serve products alone, whose ops ask for them by themselves.
template <class F>
decltype(auto) with_simd_level(F&& f) {
#if defined(__x86_64__)
  switch (simd_level()) {
    case SimdLevel::amx:
    case SimdLevel::avx512_vnni:
      return f.template operator()<SimdLevel::avx512_vnni>();
    case SimdLevel::avx2:
      return f.template operator()<SimdLevel::avx2>();
    default:
      break;
  }
#endif
  return f.template operator()<SimdLevel::scalar>();
}

}  // namespace hybrid
