#include "tensor/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "base/error.h"
#include "base/rounding.h"
#include "base/text.h"
#include "base/units.h"
#include "base/utf8.h"
#include "tensor/byte_reader.h"
#include "tensor/gguf_value_reader.h"
#include "tensor/unsupported_types.h"

namespace hybrid {
namespace {

// Real headers stay below 40 MiB. The bound keeps a damaged count from asking for all memory where
// the file itself is hundreds of GiB long.
constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorNameBytes = 127;  // the format says 64, some converters write more
constexpr uint64_t kMaxAlignment = 1 << 20;
// No sum of two numbers up to this one, and no row of that many floats, overflows 64 bits.
constexpr uint64_t kMaxSize = uint64_t{1} << 60;

// The fewest bytes that an entry can take, to check a count before memory is taken for it.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;        // key length, key, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // ..., n_dims, dim, type, offset

/// Why the magic is not the one we want, where the bytes give it away.
std::string_view other_format(std::string_view start) {
  if (start.starts_with("version http")) {
    return "a Git LFS pointer; fetch the file itself with `git lfs pull`";
  }
  if (start.starts_with("tjgg") || start.starts_with("fmgg") || start.starts_with("lmgg")) {
    return "a file of the time before GGUF; convert the model anew";
  }
  if (start.starts_with("FUGG")) return "a GGUF with all its bytes swapped";
  return {};
}

void read_magic(ByteReader& in) {
  const std::string_view start = in.read_text(4, "the magic 'GGUF'");
  if (start == "GGUF") return;
  const std::string_view rest = in.read_text(std::min<uint64_t>(in.n_left(), 12), "the magic");
  const std::string found = std::string(start) + std::string(rest);
  const std::string_view known = other_format(found);
  fail("{}: expected a GGUF file, which begins with 'GGUF', found {}", in.source(),
       known.empty() ? fmt::format("'{}'", printable(start)) : std::string(known));
}

uint32_t read_version(ByteReader& in) {
  const auto version = in.read<uint32_t>("the version");
  if (version == 2 || version == 3) return version;
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= 3) {
    fail("{}: expected a little-endian GGUF, found a big-endian one (version {}); convert it",
         in.source(), swapped);
  }
  if (version == 1) {
    fail("{}: expected GGUF version 2 or 3, found version 1; convert the model anew", in.source());
  }
  fail("{}: expected GGUF version 2 or 3, found {}", in.source(), version);
}

uint64_t read_count(ByteReader& in, std::string_view what, uint64_t min_entry_bytes) {
  const auto n = in.read<uint64_t>(fmt::format("the number of {}", what));
  if (n > in.n_left() / min_entry_bytes) {
    fail("{}: expected at most {} {} in the {} bytes that are left, found a count of {}",
         in.source(), in.n_left() / min_entry_bytes, what, in.n_left(), n);
  }
  return n;
}

/// A key or the name of a tensor.
std::string read_name(ByteReader& in, std::string_view what, uint64_t max_bytes) {
  const uint64_t at = in.position();
  const auto n_bytes = in.read<uint64_t>(what);
  if (n_bytes == 0 || n_bytes > max_bytes) {
    fail("{}: expected {} of 1 to {} bytes at offset {}, found a length of {}", in.source(), what,
         max_bytes, at, n_bytes);
  }
  std::string name(in.read_text(n_bytes, what));
  const size_t bad = find_invalid_utf8(name);
  if (bad != std::string::npos) {
    fail("{}: expected {} in UTF-8 at offset {}, found '{}', invalid at byte {}", in.source(), what,
         at, printable(name), bad);
  }
  return name;
}

uint32_t alignment_of(const GgufMetadata& metadata) {
  const uint32_t alignment = metadata.find_u32("general.alignment").value_or(32);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kMaxAlignment) {
    fail("{}: key 'general.alignment': expected a power of two from 8 to {}, found {}",
         metadata.source(), kMaxAlignment, alignment);
  }
  return alignment;
}

std::string supported_types() {
  std::vector<std::string> names;
  for (const DTypeInfo& info : all_dtypes()) names.emplace_back(info.name);
  return join(names, ", ");
}

/// Reads the description of one tensor; offsets stay relative to the data until its place is known.
class TensorInfoReader {
 public:
  TensorInfoReader(ByteReader& in, uint32_t alignment) : in_(in), alignment_(alignment) {}

  GgufTensorInfo read() {
    GgufTensorInfo info;
    info.name = read_name(in_, "a tensor name", kMaxTensorNameBytes);
    what_ = fmt::format("tensor '{}'", printable(info.name));
    const uint64_t n_elements = read_shape(info);
    read_type(info);
    set_bytes(info, n_elements);
    read_offset(info);
    return info;
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: {}: {}", in_.source(), what_, fmt::format(format, std::forward<Args>(args)...));
  }

  uint64_t read_shape(GgufTensorInfo& info) {
    info.n_dims = in_.read<uint32_t>(what_);
    if (info.n_dims < 1 || info.n_dims > 4) {
      refuse("expected 1 to 4 dimensions, found {}", info.n_dims);
    }
    uint64_t n_elements = 1;
    for (uint32_t d = 0; d < info.n_dims; ++d) {
      info.ne[d] = in_.read<uint64_t>(what_);
      if (info.ne[d] == 0) refuse("expected no dimension of size 0, found one (dimension {})", d);
      if (!checked_mul(n_elements, info.ne[d], n_elements) || n_elements > kMaxSize) {
        refuse("expected at most 2^60 elements, found more (dimension {} is {})", d, info.ne[d]);
      }
    }
    return n_elements;
  }

  void read_type(GgufTensorInfo& info) {
    const auto number = in_.read<uint32_t>(what_);
    const DTypeInfo* type = find_dtype(number);
    if (type == nullptr) {
      const std::string_view name = unsupported_type_name(number);
      refuse("expected a type we read ({}), found type {}, {}", supported_types(), number,
             name.empty() ? "which we do not know" : name);
    }
    info.type = type->type;
  }

  void set_bytes(GgufTensorInfo& info, uint64_t n_elements) {
    const DTypeInfo& type = info_of(info.type);
    if (info.ne[0] % type.block_size != 0) {
      refuse("expected rows of whole blocks (a multiple of {} elements of {}), found {} elements",
             type.block_size, type.name, info.ne[0]);
    }
    const uint64_t n_rows = n_elements / info.ne[0];
    if (!checked_mul(row_bytes(info.type, info.ne[0]), n_rows, info.n_bytes) ||
        info.n_bytes > kMaxSize) {
      refuse("expected at most 2^60 bytes, found more");
    }
  }

  void read_offset(GgufTensorInfo& info) {
    info.offset = in_.read<uint64_t>(what_);
    if (info.offset % alignment_ != 0) {
      refuse("expected an offset that is a multiple of {}, found {}", alignment_, info.offset);
    }
    if (info.offset > kMaxSize) refuse("expected an offset up to 2^60, found {}", info.offset);
  }

  ByteReader& in_;
  uint64_t alignment_;
  std::string what_;
};

void read_metadata(ByteReader& in, uint64_t n, GgufMetadata& metadata) {
  for (uint64_t i = 0; i < n; ++i) {
    std::string key = read_name(in, "a metadata key", kMaxKeyBytes);
    GgufValue value = read_gguf_value(in, key);
    metadata.add(std::move(key), std::move(value));
  }
}

void read_tensor_infos(ByteReader& in, uint64_t n, GgufHeader& header) {
  header.tensors.reserve(n);  // the names in the set stay where they are
  std::unordered_set<std::string_view> names;
  TensorInfoReader reader(in, header.alignment);
  for (uint64_t i = 0; i < n; ++i) {
    header.tensors.push_back(reader.read());
    const std::string& name = header.tensors.back().name;
    if (!names.insert(name).second) {
      fail("{}: tensor '{}': expected it once, found it twice", in.source(), printable(name));
    }
  }
}

void check_overlap(const GgufHeader& header) {
  std::vector<const GgufTensorInfo*> order;
  order.reserve(header.tensors.size());
  for (const GgufTensorInfo& info : header.tensors) order.push_back(&info);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->name < b->name;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensorInfo& before = *order[i - 1];
    if (before.offset + before.n_bytes <= order[i]->offset) continue;
    fail(
        "{}: tensor '{}': expected its data after that of '{}', which ends at byte {}, found it "
        "at byte {}; the two overlap",
        header.metadata.source(), printable(order[i]->name), printable(before.name),
        before.offset + before.n_bytes, order[i]->offset);
  }
}

/// The tensor that ends last tells how long the file should be.
void check_inside_file(const GgufHeader& header, uint64_t file_bytes) {
  const auto end = [](const GgufTensorInfo& info) { return info.offset + info.n_bytes; };
  const auto last = std::max_element(header.tensors.begin(), header.tensors.end(),
                                     [&](const auto& a, const auto& b) { return end(a) < end(b); });
  if (last == header.tensors.end() || end(*last) <= file_bytes) return;
  fail(
      "{}: tensor '{}': expected its data at bytes {} to {}, found a file of {} bytes; the file is "
      "incomplete, fetch it again",
      header.metadata.source(), printable(last->name), last->offset, end(*last), file_bytes);
}

void place_tensors(GgufHeader& header, const GgufReadOptions& options) {
  for (GgufTensorInfo& info : header.tensors) info.offset += header.data_offset;
  check_overlap(header);
  if (options.data_required) check_inside_file(header, options.file_bytes);
}

}  // namespace

GgufHeader read_gguf_header(std::span<const std::byte> bytes, const GgufReadOptions& options) {
  const bool is_bounded = bytes.size() > kMaxHeaderBytes;
  ByteReader in(bytes.first(std::min<uint64_t>(bytes.size(), kMaxHeaderBytes)), options.source,
                is_bounded ? "the header must end within the first 256 MiB; the file is damaged"
                           : "the file is incomplete or damaged");
  read_magic(in);
  GgufHeader header;
  header.metadata = GgufMetadata(options.source);
  header.version = read_version(in);
  const uint64_t n_tensors = read_count(in, "tensors", kMinTensorBytes);
  const uint64_t n_entries = read_count(in, "metadata entries", kMinKeyValueBytes);
  read_metadata(in, n_entries, header.metadata);
  header.alignment = alignment_of(header.metadata);
  read_tensor_infos(in, n_tensors, header);
  header.data_offset = round_up(in.position(), header.alignment);
  place_tensors(header, options);
  return header;
}

}  // namespace hybrid
