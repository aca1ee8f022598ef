#pragma once
// Panels of the codebook types on a device, see panel_reader_cuda.cuh. What lies where:
// panel_reader_iq-inl.h. Group G of the block is 4 * half + g.

#include "tensor/panel_reader_k_cuda.cuh"

namespace hybrid::cuda {

/// Magnitudes (1 to 127) negated where bit b of `signs` is set.
HYBRID_DEVICE uint32_t signed_quad(uint32_t magnitudes, uint32_t signs) {
  const uint32_t flags = spread_bits(signs & 15);
  return (magnitudes ^ flags * 255u) + flags;
}

/// Bits [4 half, 4 half + 4) of seven sign bits and the eighth that makes their number even.
HYBRID_DEVICE uint32_t even_sign_bits(uint32_t seven, int half) {
  return (seven | (static_cast<uint32_t>(__popc(seven)) & 1) << 7) >> (4 * half);
}

/// Dword `half` of a 64-bit grid entry.
HYBRID_DEVICE uint32_t grid_half(const uint64_t* grid, uint32_t index, int half) {
  return reinterpret_cast<const uint32_t*>(grid)[2 * index + static_cast<uint32_t>(half)];
}

template <int kBlockVectors, int kColumnsOfScale>
struct GridPanelReader : TwoBlockPanelReader<kBlockVectors> {
  using Base = TwoBlockPanelReader<kBlockVectors>;
  static constexpr bool kSigned = true;
  static constexpr int kScaleCols = kColumnsOfScale;
  static constexpr int kOffset = 0;

  HYBRID_DEVICE GridPanelReader(const std::byte* lane, uint32_t part, const GridTables* tables)
      : Base(lane, part, tables), grids(tables) {}
  HYBRID_DEVICE int group(int g) const { return 4 * this->half + g; }
  /// d * (number + 1/2) * unit
  HYBRID_DEVICE float fractional(uint32_t number, float unit) const {
    return this->d * (static_cast<float>(number) + 0.5f) * unit;
  }
  HYBRID_DEVICE float odd(uint32_t number) const {
    return this->d * static_cast<float>(2 * number + 1);
  }

  const GridTables* grids;
};

template <>
struct PanelReader<DType::iq2_xxs> : GridPanelReader<16, 32> {
  using GridPanelReader::GridPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t index = byte_at(vector(2 * group(g)), i / 2);
    const uint32_t signs = bits_at(vector(2 * group(g) + 1), i / 2 * 7, 7);
    return signed_quad(grid_half(grids->iq2_xxs, index, i % 2), even_sign_bits(signs, i % 2));
  }
  HYBRID_DEVICE float scale(int g) const {
    return fractional(vector(2 * group(g) + 1) >> 28, 0.25f);
  }
};

template <>
struct PanelReader<DType::iq2_xs> : GridPanelReader<18, 16> {
  using GridPanelReader::GridPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t run = vector(2 * group(g) + i / 4) >> (i / 2 % 2 * 16);
    return signed_quad(grid_half(grids->iq2_xs, bits_at(run, 0, 9), i % 2),
                       even_sign_bits(bits_at(run, 9, 7), i % 2));
  }
  HYBRID_DEVICE float scale(int s) const {
    return fractional(bits_at(vector(16 + half), 4 * s, 4), 0.25f);
  }
};

template <>
struct PanelReader<DType::iq2_s> : GridPanelReader<20, 16> {
  using GridPanelReader::GridPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const int run = i / 2;
    const uint32_t high = bits_at(vector(16 + half), 8 * g + 2 * run, 2);
    const uint32_t index = byte_at(vector(group(g)), run) | high << 8;
    return signed_quad(grid_half(grids->iq2_s, index, i % 2),
                       byte_at(vector(8 + group(g)), run) >> (4 * (i % 2)));
  }
  HYBRID_DEVICE float scale(int s) const {
    return fractional(bits_at(vector(18 + half), 4 * s, 4), 0.25f);
  }
};

template <>
struct PanelReader<DType::iq3_xxs> : GridPanelReader<24, 32> {
  using GridPanelReader::GridPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t index = byte_at(vector(2 * group(g) + i / 4), i % 4);
    const uint32_t signs = bits_at(vector(16 + group(g)), i / 2 * 7, 7);
    return signed_quad(grids->iq3_xxs[index], even_sign_bits(signs, i % 2));
  }
  HYBRID_DEVICE float scale(int g) const { return fractional(vector(16 + group(g)) >> 28, 0.5f); }
};

template <>
struct PanelReader<DType::iq3_s> : GridPanelReader<27, 32> {
  using GridPanelReader::GridPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t high = bits_at(vector(16 + half), 8 * g + i, 1);
    const uint32_t index = byte_at(vector(2 * group(g) + i / 4), i % 4) | high << 8;
    return signed_quad(grids->iq3_s[index], byte_at(vector(18 + group(g)), i / 2) >> (4 * (i % 2)));
  }
  HYBRID_DEVICE float scale(int g) const { return odd(bits_at(vector(26), 4 * group(g), 4)); }
};

/// 8 * (grid + delta) + 16 of IQ1's grids of -1, 0 and 1: delta is 1/8, or -1/8 where negative.
HYBRID_DEVICE uint32_t ternary_quad(const GridTables* grids, uint32_t index, uint32_t negative,
                                    int half) {
  const uint32_t grid = grid_half(grids->iq1, index, half);
  const uint32_t from_0_to_2 = ((grid & 0x7f7f7f7fu) + 0x01010101u) ^ (grid & 0x80808080u);
  return (from_0_to_2 << 3) + (negative != 0 ? 0x07070707u : 0x09090909u);
}

template <>
struct PanelReader<DType::iq1_s> : GridPanelReader<12, 32> {
  using GridPanelReader::GridPanelReader;
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 16;
  HYBRID_DEVICE uint32_t word(int g) const {
    return vector(8 + 2 * half + g / 2) >> (g % 2 * 16) & 0xffff;
  }
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const int run = i / 2;
    const uint32_t index = byte_at(vector(group(g)), run) | bits_at(word(g), 3 * run, 3) << 8;
    return ternary_quad(grids, index, word(g) >> 15, i % 2);
  }
  HYBRID_DEVICE float scale(int g) const { return odd(bits_at(word(g), 12, 3)) * 0.125f; }
};

template <>
struct PanelReader<DType::iq1_m> : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 16;
  static constexpr int kOffset = 16;

  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables* tables)
      : LaneDwords(lane, uint64_t{part / 2} * 14), half(static_cast<int>(part % 2)), grids(tables) {
    const uint32_t low = vector(12), high = vector(13);
    d = half_to_float(static_cast<f16_t>(bits_at(low, 12, 4) | bits_at(low, 28, 4) << 4 |
                                         bits_at(high, 12, 4) << 8 | bits_at(high, 28, 4) << 12));
    scales = half == 0 ? low : high;
  }
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const int run = i / 2, at = g % 2 * 16 + 4 * run;  // two groups share a vector of nibbles
    const uint32_t high = vector(8 + 2 * half + g / 2);
    const uint32_t index = byte_at(vector(4 * half + g), run) | bits_at(high, at, 3) << 8;
    return ternary_quad(grids, index, bits_at(high, at + 3, 1), i % 2);
  }
  HYBRID_DEVICE float scale(int s) const {
    const uint32_t number = bits_at(scales, s / 4 * 16 + s % 4 * 3, 3);
    return d * static_cast<float>(2 * number + 1) * 0.125f;
  }

  float d;
  uint32_t scales;
  int half;
  const GridTables* grids;
};

}  // namespace hybrid::cuda
