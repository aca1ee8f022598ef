#pragma once
// Panels of the K types and IQ4_XS on a device, see panel_reader_cuda.cuh. What lies where:
// panel_reader_k-inl.h. `half` is 1 in the second part of a block of 256 columns.

#include "tensor/panel_reader_cuda.cuh"

namespace hybrid::cuda {

/// The 6-bit scales and minima of the part's four groups in bytes.
template <int kVectors>
struct SixBitPanelReader : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 32;

  HYBRID_DEVICE SixBitPanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part / 2} * kVectors), half(static_cast<int>(part % 2)) {
    const uint32_t head = vector(0), first = vector(1), second = vector(2);
    d = half_at(head, 0);
    dmin = half_at(head, 1);
    if (half == 0) {
      scales = first & 0x3f3f3f3fu;
      minima = second & 0x3f3f3f3fu;
    } else {
      const uint32_t low = vector(3);
      scales = nibbles(low, 0) | (first >> 2 & 0x30303030u);
      minima = nibbles(low, 1) | (second >> 2 & 0x30303030u);
    }
  }
  HYBRID_DEVICE float scale(int g) const { return d * static_cast<float>(byte_at(scales, g)); }
  HYBRID_DEVICE float minimum(int g) const { return dmin * static_cast<float>(byte_at(minima, g)); }

  float d, dmin;
  uint32_t scales, minima;
  int half;
};

template <>
struct PanelReader<DType::q4_k> : SixBitPanelReader<36> {
  using SixBitPanelReader::SixBitPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return nibbles(vector(4 + 16 * half + g / 2 * 8 + i), g % 2);
  }
};

template <>
struct PanelReader<DType::q5_k> : SixBitPanelReader<44> {
  using SixBitPanelReader::SixBitPanelReader;
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t fifth = (vector(4 + i) >> (4 * half + g) & 0x01010101u) << 4;
    return nibbles(vector(12 + 16 * half + g / 2 * 8 + i), g % 2) | fifth;
  }
};

template <>
struct PanelReader<DType::iq4_xs> : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = true;
  static constexpr int kScaleCols = 32;
  static constexpr int kOffset = 0;

  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part / 2} * 34), half(static_cast<int>(part % 2)) {
    const uint32_t head = vector(0);
    d = half_at(head, 0);
    high = head >> (16 + 8 * half);
    low = vector(1) >> (16 * half);
  }
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return look_up_iq4_nl(nibbles(vector(2 + 16 * half + 4 * g + i % 4), i / 4));
  }
  HYBRID_DEVICE float scale(int g) const {
    const uint32_t bits = bits_at(low, 4 * g, 4) | bits_at(high, 2 * g, 2) << 4;
    return d * static_cast<float>(static_cast<int32_t>(bits) - 32);
  }

  float d;
  uint32_t high, low;
  int half;
};

template <>
struct PanelReader<DType::q2_k> : LaneDwords {
  static constexpr bool kIsFloat = false;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 16;

  HYBRID_DEVICE PanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part / 2} * 21), half(static_cast<int>(part % 2)) {
    const uint32_t head = vector(20);
    d = half_at(head, 0);
    dmin = half_at(head, 1);
  }
  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    return vector(4 + 8 * half + i) >> (2 * g) & 0x03030303u;
  }
  HYBRID_DEVICE float scale(int s) const {
    return d * static_cast<float>(bits_at(vector(2 * half + s / 4), s % 4 * 8, 4));
  }
  HYBRID_DEVICE float minimum(int s) const {
    return dmin * static_cast<float>(bits_at(vector(2 * half + s / 4), s % 4 * 8 + 4, 4));
  }

  float d, dmin;
  int half;
};

/// Units of two blocks of 256 columns whose f16 scales share the first vector; dwords are counted
/// from the block's own fields on.
template <int kBlockVectors>
struct TwoBlockPanelReader : LaneDwords {
  static constexpr bool kIsFloat = false;

  HYBRID_DEVICE TwoBlockPanelReader(const std::byte* lane, uint32_t part, const GridTables*)
      : LaneDwords(lane, uint64_t{part / 4} * (1 + 2 * kBlockVectors)),
        half(static_cast<int>(part % 2)) {
    const int second = static_cast<int>(part / 2 % 2);
    d = half_at(vector(0), second);
    base += (1 + second * kBlockVectors) * kLaneVectorBytes;
  }

  float d;
  int half;
};

template <>
struct PanelReader<DType::q3_k> : TwoBlockPanelReader<27> {
  using TwoBlockPanelReader::TwoBlockPanelReader;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 16;
  static constexpr int kOffset = 4;

  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t low = vector(8 + 8 * half + i) >> (2 * g) & 0x03030303u;
    return low | (vector(i) >> (4 * half + g) & 0x01010101u) << 2;
  }
  HYBRID_DEVICE float scale(int s) const {
    const uint32_t low = bits_at(vector(24 + s / 4), s % 4 * 8 + 4 * half, 4);
    const uint32_t high = bits_at(vector(26), s % 4 * 8 + (2 * half + s / 4) * 2, 2);
    return d * static_cast<float>(static_cast<int32_t>(low | high << 4) - 32);
  }
};

template <>
struct PanelReader<DType::q6_k> : TwoBlockPanelReader<52> {
  using TwoBlockPanelReader::TwoBlockPanelReader;
  static constexpr bool kSigned = false;
  static constexpr int kScaleCols = 16;
  static constexpr int kOffset = 32;

  HYBRID_DEVICE uint32_t quad(int g, int i) const {
    const uint32_t low = nibbles(vector(16 * half + 8 * (g % 2) + i), g / 2);
    return low | (vector(32 + 8 * half + i) >> (2 * g) & 0x03030303u) << 4;
  }
  HYBRID_DEVICE float scale(int s) const {
    const uint32_t byte = byte_at(vector(48 + 2 * half + s / 4), s % 4);
    return d * static_cast<float>(static_cast<int8_t>(byte));
  }
};

}  // namespace hybrid::cuda
