#pragma once
// Builds GGUF files in memory, good ones and broken ones.
//
//   GgufBuilder gguf;
//   gguf.add("general.architecture", "deepseek2").add("deepseek2.block_count", uint32_t{2});
//   gguf.add_tensor("output.weight", DType::q4_k, {256, 8});
//   const std::string bytes = gguf.bytes();

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/gguf_metadata.h"

namespace hybrid::test {

/// The little-endian bytes of a number (1 byte for a bool), or a string with its length before it.
template <class T>
std::string gguf_bytes(const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
  } else {
    const std::string_view text(value);
    return gguf_bytes(uint64_t{text.size()}) + std::string(text);
  }
}

template <class T>
constexpr GgufType gguf_type_of() {
  if constexpr (std::is_same_v<T, bool>)
    return GgufType::boolean;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return GgufType::u8;
  else if constexpr (std::is_same_v<T, int8_t>)
    return GgufType::i8;
  else if constexpr (std::is_same_v<T, uint16_t>)
    return GgufType::u16;
  else if constexpr (std::is_same_v<T, int16_t>)
    return GgufType::i16;
  else if constexpr (std::is_same_v<T, uint32_t>)
    return GgufType::u32;
  else if constexpr (std::is_same_v<T, int32_t>)
    return GgufType::i32;
  else if constexpr (std::is_same_v<T, uint64_t>)
    return GgufType::u64;
  else if constexpr (std::is_same_v<T, int64_t>)
    return GgufType::i64;
  else if constexpr (std::is_same_v<T, float>)
    return GgufType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return GgufType::f64;
  else
    return GgufType::string;
}

class GgufBuilder {
 public:
  /// A tensor as it will be written; what is not set is right. Tests set what is to be wrong.
  struct Tensor {
    std::string name;
    uint32_t type = 0;
    std::vector<uint64_t> dims;
    std::string data;
    std::optional<uint64_t> offset;  // relative to the data, as in the file
  };

  GgufBuilder& version(uint32_t value);

  /// Adds general.alignment too.
  GgufBuilder& alignment(uint32_t value);

  template <class T>
  GgufBuilder& add(std::string_view key, const T& value) {
    return add_raw(key, static_cast<uint32_t>(gguf_type_of<T>()), gguf_bytes(value));
  }

  template <class T>
  GgufBuilder& add_array(std::string_view key, const std::vector<T>& values) {
    return add_raw(key, static_cast<uint32_t>(GgufType::array), array_bytes(values));
  }

  /// Element type, count and elements: the value of an array, or an element of one.
  template <class T>
  static std::string array_bytes(const std::vector<T>& values) {
    std::string out = array_head(gguf_type_of<T>(), values.size());
    for (const T& value : values) out += gguf_bytes(value);
    return out;
  }
  static std::string array_head(GgufType element, uint64_t n);

  /// Any type number with any bytes.
  GgufBuilder& add_raw(std::string_view key, uint32_t type, std::string_view value_bytes);

  /// Data that is not given is zeros, as many as type and shape ask for.
  GgufBuilder& add_tensor(std::string_view name, DType type, std::vector<uint64_t> dims,
                          std::string data = {});
  GgufBuilder& add_tensor(Tensor tensor);
  Tensor& tensor(size_t i) { return tensors_.at(i); }

  /// Counts to write instead of the right ones.
  GgufBuilder& claim_tensors(uint64_t n);
  GgufBuilder& claim_entries(uint64_t n);

  /// The keys of part `part` (from 0) of a split model, typed as gguf-split does it.
  GgufBuilder& add_split_keys(uint16_t part, uint16_t n_parts, int32_t n_tensors);

  std::string bytes() const;

 private:
  std::string header() const;

  uint32_t version_ = 3;
  uint32_t alignment_ = 32;
  std::vector<std::string> entries_;
  std::vector<Tensor> tensors_;
  std::optional<uint64_t> claimed_tensors_;
  std::optional<uint64_t> claimed_entries_;
};

/// A file with every metadata type, nested arrays and four tensors of several types.
GgufBuilder sample_gguf();

}  // namespace hybrid::test
