#include "tensor/gguf_value_reader.h"

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr int kMaxArrayDepth = 4;

/// Bytes of a value in the file; for strings and arrays the length fields, which are always there.
uint64_t min_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::string:
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::array:
      return 4 + 8;
  }
  return 1;
}

/// Reads the metadata values of one key; `what_` names it in errors.
class ValueReader {
 public:
  ValueReader(ByteReader& in, std::string_view key)
      : in_(in), what_(fmt::format("the value of key '{}'", printable(key))) {}

  GgufValue read() {
    const GgufType type = read_type();
    return {type, read_value(type)};
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: {}: {}", in_.source(), what_, fmt::format(format, std::forward<Args>(args)...));
  }

  GgufType read_type() {
    const auto number = in_.read<uint32_t>(what_);
    if (number > static_cast<uint32_t>(GgufType::f64)) {
      refuse("expected a metadata type from 0 to 12, found {}", number);
    }
    return static_cast<GgufType>(number);
  }

  decltype(GgufValue::value) read_value(GgufType type) {
    switch (type) {
      case GgufType::u8:
        return widened<uint64_t, uint8_t>();
      case GgufType::u16:
        return widened<uint64_t, uint16_t>();
      case GgufType::u32:
        return widened<uint64_t, uint32_t>();
      case GgufType::u64:
        return widened<uint64_t, uint64_t>();
      case GgufType::i8:
        return widened<int64_t, int8_t>();
      case GgufType::i16:
        return widened<int64_t, int16_t>();
      case GgufType::i32:
        return widened<int64_t, int32_t>();
      case GgufType::i64:
        return widened<int64_t, int64_t>();
      case GgufType::f32:
        return widened<double, float>();
      case GgufType::f64:
        return widened<double, double>();
      case GgufType::boolean:
        return read_bool();
      case GgufType::string:
        return read_string();
      case GgufType::array:
        return read_array(1);
    }
    refuse("expected a known type, found {}", static_cast<uint32_t>(type));
  }

  template <class Wide, class T>
  Wide widened() {
    return static_cast<Wide>(in_.read<T>(what_));
  }

  bool read_bool() {
    const auto byte = in_.read<uint8_t>(what_);
    if (byte > 1) refuse("expected 0 or 1 for a bool, found {}", byte);
    return byte == 1;
  }

  std::string read_string() {
    const auto n_bytes = in_.read<uint64_t>(what_);
    return std::string(in_.read_text(n_bytes, what_));
  }

  GgufArray read_array(int depth) {
    if (depth > kMaxArrayDepth) {
      refuse("expected arrays nested at most {} deep, found more", kMaxArrayDepth);
    }
    GgufArray array;
    array.element = read_type();
    const auto n = in_.read<uint64_t>(what_);
    if (n > in_.n_left() / min_bytes(array.element)) {
      refuse("expected an array that fits the file, found {} {} values where {} bytes are left", n,
             name_of(array.element), in_.n_left());
    }
    read_elements(array, n, depth);
    return array;
  }

  void read_elements(GgufArray& array, uint64_t n, int depth) {
    switch (array.element) {
      case GgufType::u8:
        return fill<uint64_t>(array, n, [&] { return in_.read<uint8_t>(what_); });
      case GgufType::u16:
        return fill<uint64_t>(array, n, [&] { return in_.read<uint16_t>(what_); });
      case GgufType::u32:
        return fill<uint64_t>(array, n, [&] { return in_.read<uint32_t>(what_); });
      case GgufType::u64:
        return fill<uint64_t>(array, n, [&] { return in_.read<uint64_t>(what_); });
      case GgufType::i8:
        return fill<int64_t>(array, n, [&] { return in_.read<int8_t>(what_); });
      case GgufType::i16:
        return fill<int64_t>(array, n, [&] { return in_.read<int16_t>(what_); });
      case GgufType::i32:
        return fill<int64_t>(array, n, [&] { return in_.read<int32_t>(what_); });
      case GgufType::i64:
        return fill<int64_t>(array, n, [&] { return in_.read<int64_t>(what_); });
      case GgufType::f32:
        return fill<double>(array, n, [&] { return in_.read<float>(what_); });
      case GgufType::f64:
        return fill<double>(array, n, [&] { return in_.read<double>(what_); });
      case GgufType::boolean:
        return fill<bool>(array, n, [&] { return read_bool(); });
      case GgufType::string:
        return fill<std::string>(array, n, [&] { return read_string(); });
      case GgufType::array:
        return fill<GgufArray>(array, n, [&] { return read_array(depth + 1); });
    }
  }

  template <class T, class Read>
  void fill(GgufArray& array, uint64_t n, const Read& read) {
    auto& values = array.values.emplace<std::vector<T>>();
    values.reserve(n);
    for (uint64_t i = 0; i < n; ++i) values.push_back(read());
  }

  ByteReader& in_;
  std::string what_;
};

}  // namespace

GgufValue read_gguf_value(ByteReader& in, std::string_view key) {
  return ValueReader(in, key).read();
}

}  // namespace hybrid
