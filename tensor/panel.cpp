#include "tensor/panel.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "base/error.h"
#include "tensor/panel_exponent.h"

namespace hybrid {
namespace {

constexpr uint32_t kMaxRowBytes = 420;  // Q6_K: two blocks of 210

/// Where a type keeps its f16 scale where that spoils the alignment of the rest: first, or last.
uint32_t lone_scale_offset(DType type) {
  return type == DType::q3_k || type == DType::q6_k ? info_of(type).block_bytes - 2 : 0;
}

/// Four dwords of a unit that are 16 bytes in a row of the file: packed together, which is what
/// makes packing as fast as memory.
struct Tile {
  uint16_t dword;
  uint16_t source;  // the first of the bytes
  bool swapped;     // the two halves in the middle of each eight bytes change places (F16, BF16)
};

/// source[i]: the byte of a row's blocks that becomes byte i of its unit. `tiles` and `singles`
/// (dwords gathered byte by byte) say the same, in the form that pack_unit() wants.
struct ByteOrder {
  PanelFormat format;
  std::array<uint16_t, kMaxRowBytes> source{};
  std::vector<Tile> tiles;
  std::vector<uint16_t> singles;
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

/// The tile of the four dwords before `end`, if they are one.
std::optional<Tile> tile_before(const ByteOrder& order, uint32_t end) {
  constexpr uint8_t kStraight[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr uint8_t kSwapped[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  if (end < 4 || 4 * end > order.format.row_bytes) return std::nullopt;
  const uint16_t* source = &order.source[4 * (end - 4)];
  const auto lies_as = [&](const uint8_t* bytes) {
    return std::equal(bytes, bytes + 16, source,
                      [&](uint8_t byte, uint16_t from) { return from == source[0] + byte; });
  };
  const bool swapped = lies_as(kSwapped);
  if (!swapped && !lies_as(kStraight)) return std::nullopt;
  return Tile{static_cast<uint16_t>(end - 4), source[0], swapped};
}

/// A run of dwords that four do not divide ends in a tile that repeats some of the one before it.
void cut_into_tiles(ByteOrder& order) {
  const uint32_t n_dwords = order.format.row_bytes / 4;
  for (uint32_t i = 0; i < n_dwords;) {
    std::optional<Tile> tile;
    uint32_t n_new = 5;  // dwords that the tile adds
    while (n_new > 1 && !tile) tile = tile_before(order, i + --n_new);
    if (tile) {
      order.tiles.push_back(*tile);
    } else {
      order.singles.push_back(static_cast<uint16_t>(i));
    }
    i += n_new;
  }
}

const ByteOrder& order_of(DType type) {
  static const auto orders = [] {
    std::array<ByteOrder, 64> all{};
    for (const DTypeInfo& info : all_dtypes()) {
      ByteOrder& order = all.at(static_cast<size_t>(info.type));
      order = make_order(info.type);
      cut_into_tiles(order);
    }
    return all;
  }();
  return orders[static_cast<size_t>(info_of(type).type)];
}

using Dwords = uint32_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(16)));

template <bool kSwapped>
Dwords load_dwords(const std::byte* from) {
  Halves v;
  std::memcpy(&v, from, sizeof(v));
  if constexpr (kSwapped) v = __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7);
  return reinterpret_cast<Dwords>(v);
}

/// A tile of four rows: dword i of the tile, of the four rows, goes to to[64 i].
template <bool kSwapped>
void pack_tile(const std::byte* const* rows, uint32_t source, std::byte* to) {
  const Dwords a = load_dwords<kSwapped>(rows[0] + source);
  const Dwords b = load_dwords<kSwapped>(rows[1] + source);
  const Dwords c = load_dwords<kSwapped>(rows[2] + source);
  const Dwords d = load_dwords<kSwapped>(rows[3] + source);
  const Dwords ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5);
  const Dwords ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
  const Dwords bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5);
  const Dwords bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
  const Dwords out[4] = {__builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5),
                         __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7),
                         __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5),
                         __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * kVectorBytes, &out[i], sizeof(out[i]));
}

/// rows: [16], a unit of each.
void pack_unit(const ByteOrder& order, const std::byte* const* rows, std::byte* dst) {
  for (uint32_t r = 0; r < kPanelRows; r += 4) {
    for (const Tile& tile : order.tiles) {
      std::byte* to = dst + tile.dword * kVectorBytes + r * 4;
      if (tile.swapped) {
        pack_tile<true>(rows + r, tile.source, to);
      } else {
        pack_tile<false>(rows + r, tile.source, to);
      }
    }
  }
  for (const uint32_t dword : order.singles) {
    const uint16_t* source = &order.source[4 * dword];
    for (uint32_t r = 0; r < kPanelRows; ++r) {
      const std::byte* row = rows[r];
      const std::byte bytes[4] = {row[source[0]], row[source[1]], row[source[2]], row[source[3]]};
      std::memcpy(dst + dword * kVectorBytes + r * 4, bytes, sizeof(bytes));
    }
  }
}

void unpack_row(const ByteOrder& order, const std::byte* lane, std::byte* row) {
  for (uint32_t i = 0; i < order.format.row_bytes; ++i) {
    row[order.source[i]] = lane[i / 4 * kVectorBytes + i % 4];
  }
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
  static constexpr std::byte kNoRow[kMaxRowBytes]{};
  const ByteOrder& order = order_of(type);
  const uint64_t row_bytes = hybrid::row_bytes(type, n_cols), unit = order.format.row_bytes;
  const std::byte* unit_rows[kPanelRows];
  uint64_t done = 0;
  for (; done + unit <= row_bytes; done += unit, dst += order.format.unit_bytes) {
    for (uint64_t r = 0; r < kPanelRows; ++r) {
      unit_rows[r] = r < n_rows ? rows + r * row_bytes + done : kNoRow;
    }
    pack_unit(order, unit_rows, dst);
  }
  if (done < row_bytes) {
    std::byte padded[kPanelRows][kMaxRowBytes]{};
    for (uint64_t r = 0; r < kPanelRows; ++r) {
      if (r < n_rows) std::memcpy(padded[r], rows + r * row_bytes + done, row_bytes - done);
      unit_rows[r] = padded[r];
    }
    pack_unit(order, unit_rows, dst);
  }
  return panel_exponent(type, rows, n_rows * (row_bytes / info_of(type).block_bytes));
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
