#pragma once
// A cursor over untrusted bytes, little endian: every read is checked against what is left, and the
// error says what was being read, where, and how many bytes were missing.

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace hybrid {

static_assert(std::endian::native == std::endian::little, "the file formats are little endian");

class ByteReader {
 public:
  /// `source` stands at the beginning of every error, `advice` at its end (why the bytes end here).
  ByteReader(std::span<const std::byte> bytes, std::string source, std::string advice)
      : bytes_(bytes), source_(std::move(source)), advice_(std::move(advice)) {}

  uint64_t position() const { return at_; }
  uint64_t n_left() const { return bytes_.size() - at_; }
  const std::string& source() const { return source_; }

  /// Throws unless n bytes are left. `what` names them in the error.
  void need(uint64_t n, std::string_view what) const {
    if (n > n_left()) [[unlikely]] {
      fail("{}: expected {} bytes for {} at offset {}, found {}; {}", source_, n, what, at_,
           n_left(), advice_);
    }
  }

  /// A number, whatever its alignment in the file.
  template <class T>
  T read(std::string_view what) {
    need(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  /// n bytes as text; valid as long as the bytes are.
  std::string_view read_text(uint64_t n, std::string_view what) {
    need(n, what);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, n);
    at_ += n;
    return text;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
  std::string source_;
  std::string advice_;
};

}  // namespace hybrid
