#pragma once
// The element types of GGUF tensors: their numbers in the file, names, and block sizes.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace hybrid {

/// The values are GGUF's (ggml_type). Types that no supported file uses are left out.
enum class DType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  bf16 = 30,
  mxfp4 = 39,
};

struct DTypeInfo {
  DType type;
  std::string_view name;  // as llama.cpp prints it: "Q4_K", "IQ2_XXS", "F16"
  uint32_t block_size;    // elements in a block
  uint32_t block_bytes;   // bytes of a block
};

/// Null for a number that is no type we know.
const DTypeInfo* find_dtype(uint32_t gguf_type);

const DTypeInfo& info_of(DType type);

inline std::string_view name_of(DType type) { return info_of(type).name; }

/// Bytes of a row of n elements; n must be a multiple of the block size.
inline uint64_t row_bytes(DType type, uint64_t n) {
  const DTypeInfo& info = info_of(type);
  return n / info.block_size * info.block_bytes;
}

/// F32, F16 and BF16: no blocks.
inline bool is_float(DType type) { return info_of(type).block_size == 1; }

/// All types, in the order of their numbers.
std::span<const DTypeInfo> all_dtypes();

}  // namespace hybrid
