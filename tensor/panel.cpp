#include "tensor/panel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "tensor/quant_blocks.h"

namespace hybrid {
namespace {

constexpr uint32_t kMaxRowBytes = 420;  // Q6_K: two blocks of 210

bool is_float(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

/// Where a type keeps its f16 scale where that spoils the alignment of the rest: first, or last.
uint32_t lone_scale_offset(DType type) {
  return type == DType::q3_k || type == DType::q6_k ? info_of(type).block_bytes - 2 : 0;
}

/// source[i]: the byte of a row's blocks that becomes byte i of its unit.
struct ByteOrder {
  PanelFormat format;
  std::array<uint16_t, kMaxRowBytes> source{};
};

void order_block(ByteOrder& order, uint32_t& at, uint32_t begin, uint32_t end) {
  for (uint32_t i = begin; i < end; ++i) order.source[at++] = static_cast<uint16_t>(i);
}

ByteOrder make_order(DType type) {
  ByteOrder order{};
  const DTypeInfo& info = info_of(type);
  uint32_t n_blocks = 1;
  if (is_float(type)) {
    n_blocks = 32;
  } else if (type == DType::mxfp4) {
    n_blocks = 4;
  } else if (info.block_bytes % 4 == 2) {
    n_blocks = 2;
  }
  const uint32_t bytes = n_blocks * info.block_bytes;
  order.format = {n_blocks, n_blocks * info.block_size, bytes,
                  bytes * static_cast<uint32_t>(kPanelRows)};
  HYBRID_CHECK(bytes % 4 == 0 && bytes <= kMaxRowBytes);
  uint32_t at = 0;
  if (type == DType::f16 || type == DType::bf16) {
    for (uint32_t four = 0; four < 32; four += 4) {
      for (const uint32_t i : {0, 2, 1, 3}) {
        order_block(order, at, 2 * (four + i), 2 * (four + i) + 2);
      }
    }
  } else if (n_blocks == 1 || type == DType::f32) {
    order_block(order, at, 0, bytes);
  } else {
    const uint32_t n_scale = type == DType::mxfp4 ? 1 : 2;
    const uint32_t scale = lone_scale_offset(type);
    for (uint32_t b = 0; b < n_blocks; ++b) {
      const uint32_t begin = b * info.block_bytes + scale;
      order_block(order, at, begin, begin + n_scale);
    }
    for (uint32_t b = 0; b < n_blocks; ++b) {
      const uint32_t begin = b * info.block_bytes + (scale == 0 ? n_scale : 0);
      order_block(order, at, begin, begin + info.block_bytes - n_scale);
    }
  }
  return order;
}

const ByteOrder& order_of(DType type) {
  static const auto orders = [] {
    std::array<ByteOrder, 64> all{};
    size_t count = 0;
    const DTypeInfo* types = all_dtypes(count);
    for (size_t i = 0; i < count; ++i) {
      all.at(static_cast<size_t>(types[i].type)) = make_order(types[i].type);
    }
    return all;
  }();
  return orders[static_cast<size_t>(info_of(type).type)];
}

/// The four bytes that become dword i.
uint32_t gather_dword(const ByteOrder& order, const std::byte* row, uint32_t i) {
  uint32_t value;
  const uint16_t* source = &order.source[4 * i];
  if (source[3] == source[0] + 3) {
    std::memcpy(&value, row + source[0], 4);
    return value;
  }
  std::byte bytes[4];
  for (int b = 0; b < 4; ++b) bytes[b] = row[source[b]];
  std::memcpy(&value, bytes, 4);
  return value;
}

/// One row into (or out of) a unit; n_bytes of the row are there, the rest are zeros.
void pack_row(const ByteOrder& order, const std::byte* row, std::byte* lane) {
  const uint32_t n_dwords = order.format.row_bytes / 4;
  for (uint32_t i = 0; i < n_dwords; ++i) {
    const uint32_t value = gather_dword(order, row, i);
    std::memcpy(lane + i * kVectorBytes, &value, 4);
  }
}

void unpack_row(const ByteOrder& order, const std::byte* lane, std::byte* row) {
  for (uint32_t i = 0; i < order.format.row_bytes; ++i) {
    row[order.source[i]] = lane[i / 4 * kVectorBytes + i % 4];
  }
}

/// |weight| <= scale * |d| + minimum * |dmin| for every element of a block, with d and dmin (or m)
/// at these offsets; minimum 0 where there is none.
struct Bound {
  uint32_t scale_offset = 0;
  float scale = 0;
  uint32_t minimum_offset = 0;
  float minimum = 0;
};

Bound bound_of(DType type) {
  switch (type) {
    case DType::q4_0:
      return {0, 8};
    case DType::q4_1:
      return {0, 15, 2, 1};
    case DType::q5_0:
      return {0, 16};
    case DType::q5_1:
      return {0, 31, 2, 1};
    case DType::q8_0:
      return {0, 128};
    case DType::q2_k:
      return {80, 15 * 3, 82, 15};
    case DType::q3_k:
      return {108, 32 * 4};
    case DType::q4_k:
      return {0, 63 * 15, 2, 63};
    case DType::q5_k:
      return {0, 63 * 31, 2, 63};
    case DType::q6_k:
      return {208, 128 * 32};
    case DType::iq4_nl:
      return {0, 127};
    case DType::iq4_xs:
      return {0, 32 * 127};
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
      return {0, 15.5f / 4 * 43};
    case DType::iq3_xxs:
      return {0, 15.5f / 2 * 62};
    case DType::iq3_s:
      return {0, 31 * 64};  // the offset of the signed values counts, too
    case DType::iq1_s:
      return {0, 15 * 2};
    case DType::iq1_m:
      return {0, 15 * 2};
    default:
      return {0, 1};  // the element itself
  }
}

float magnitude_at(const std::byte* p) {
  f16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return std::abs(f16_to_f32(bits));
}

float block_bound(DType type, const Bound& bound, const std::byte* block) {
  if (type == DType::mxfp4) return 12 * e8m0_half(static_cast<uint8_t>(block[0]));
  if (type == DType::iq1_m) {
    BlockIQ1_M b;
    std::memcpy(&b, block, sizeof(b));
    return bound.scale * std::abs(f16_to_f32(iq1_m_scale(b)));
  }
  float value = bound.scale * magnitude_at(block + bound.scale_offset);
  if (bound.minimum > 0) value += bound.minimum * magnitude_at(block + bound.minimum_offset);
  return value;
}

int8_t exponent_of(DType type, const std::byte* rows, uint64_t n_blocks) {
  if (type == DType::f32 || type == DType::bf16) return 0;
  const Bound bound = bound_of(type);
  const uint32_t block_bytes = info_of(type).block_bytes;
  float largest = 0;
  for (uint64_t i = 0; i < n_blocks; ++i) {
    const float value = block_bound(type, bound, rows + i * block_bytes);
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  if (largest == 0) return 0;
  int log2_above;  // largest < 2^log2_above
  std::frexp(largest, &log2_above);
  const int limit = type == DType::f16 ? 15 : 60;  // 2^e must be a half float, or at least a float
  return static_cast<int8_t>(std::clamp(15 - log2_above, -limit, limit));
}

}  // namespace

PanelFormat panel_format(DType type) { return order_of(type).format; }

uint64_t panel_bytes(DType type, uint64_t n_cols) {
  const PanelFormat format = panel_format(type);
  return (n_cols + format.n_cols - 1) / format.n_cols * format.unit_bytes;
}

int8_t pack_panel(DType type, const std::byte* rows, uint64_t n_rows, uint64_t n_cols,
                  std::byte* dst) {
  HYBRID_CHECK(n_rows >= 1 && n_rows <= kPanelRows);
  const ByteOrder& order = order_of(type);
  const uint64_t row_bytes = hybrid::row_bytes(type, n_cols);
  if (n_rows < kPanelRows) std::memset(dst, 0, panel_bytes(type, n_cols));
  for (uint64_t done = 0; done < row_bytes; done += order.format.row_bytes) {
    const uint64_t n = std::min<uint64_t>(order.format.row_bytes, row_bytes - done);
    for (uint64_t r = 0; r < n_rows; ++r) {
      const std::byte* row = rows + r * row_bytes + done;
      std::array<std::byte, kMaxRowBytes> padded{};
      if (n < order.format.row_bytes) {
        std::memcpy(padded.data(), row, n);
        row = padded.data();
      }
      pack_row(order, row, dst + r * 4);
    }
    dst += order.format.unit_bytes;
  }
  return exponent_of(type, rows, n_rows * (row_bytes / info_of(type).block_bytes));
}

void unpack_panel(DType type, const std::byte* panel, uint64_t n_rows, uint64_t n_cols,
                  std::byte* rows) {
  HYBRID_CHECK(n_rows >= 1 && n_rows <= kPanelRows);
  const ByteOrder& order = order_of(type);
  const uint64_t row_bytes = hybrid::row_bytes(type, n_cols);
  for (uint64_t done = 0; done < row_bytes; done += order.format.row_bytes) {
    const uint64_t n = std::min<uint64_t>(order.format.row_bytes, row_bytes - done);
    for (uint64_t r = 0; r < n_rows; ++r) {
      std::array<std::byte, kMaxRowBytes> row{};
      unpack_row(order, panel + r * 4, row.data());
      std::memcpy(rows + r * row_bytes + done, row.data(), n);
    }
    panel += order.format.unit_bytes;
  }
}

}  // namespace hybrid
