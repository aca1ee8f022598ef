#pragma once
// Reads panels: the one place that knows the bits of each type in the packed layout (panel.h).
//
// Every quantised type is seen as
//
//   weight = scale * q - minimum          q an unsigned byte
//
// with one scale and minimum for each row and each kScaleCols (16 or 32) columns. Types with signed
// values store them with an offset, kOffset; their minimum is scale * kOffset.
//
//   PanelReader<L, type> reader(panel, block);      a block is 256 columns of the panel
//   reader.quad(g, i)        columns 32 g + 4 i .. + 3 of the block: byte b of lane r is q of row r
//   Reader::kBlockBytes      bytes of a block of 16 rows
//   Reader::kPeriod          groups after which the bits of the next ones lie alike: what kernels
//                            need to unroll, see for_groups()
//   reader.scale(s), minimum_of<L>(reader, s)       for columns kScaleCols * s .. of the block
//
// Types of 4 bits also give quads as they are stored, and the values of their nibbles without
// offset:
//
//   reader.packed(g, i)      bytes that hold q in their low nibble, or high if is_high(g, i)
//   Reader::kValues[q]
//
// Some give what they hold in a form that needs less work:
//
//   reader.scale_halves(s)       a half float, the scale of s, in word s % 2 of each lane
//
// Indexes are meant to be constants after unrolling; that of a group up to multiples of kPeriod.
// Columns past the end of the matrix must not be asked for.

#include <algorithm>
#include <array>
#include <utility>

#include "tensor/codebooks.h"
#include "tensor/dtype.h"
#include "tensor/lanes-inl.h"
#include "tensor/panel.h"

#define HYBRID_INLINE inline __attribute__((always_inline))

namespace hybrid::internal {
namespace {

inline constexpr int kBlockCols = 256;  // columns that kernels take together
inline constexpr int kGroupCols = 32;   // columns that share the scale of an activation
inline constexpr int kGroups = kBlockCols / kGroupCols;
inline constexpr int kQuads = kGroupCols / 4;

template <SimdLevel L, DType type>
struct PanelReader;

/// What most readers share. kUnitCols and kUnitVectors say how blocks of 256 columns lie in units.
template <SimdLevel L, int kUnitCols, int kUnitVectors>
struct UnitReader {
  using V = Lanes<L>;
  using Int = typename V::Int;
  using Float = typename V::Float;
  static constexpr int kBlockBytes = kUnitVectors * 64 * kBlockCols / kUnitCols;
  static constexpr int kPeriod = std::min(kUnitCols, kBlockCols) / kGroupCols;

  HYBRID_INLINE explicit UnitReader(const std::byte* panel, uint64_t block)
      : base(panel + block * kBlockCols / kUnitCols * kUnitVectors * kVectorBytes) {}

  /// Vector i of the unit that holds column 32 g of the block.
  HYBRID_INLINE Int vector(int g, int i) const {
    const int unit = kUnitCols >= kBlockCols ? 0 : g * kGroupCols / kUnitCols;
    return V::load(base + (unit * kUnitVectors + i) * static_cast<int>(kVectorBytes));
  }
  /// Byte k of each lane as a number.
  HYBRID_INLINE static Int byte(Int x, int k) {
    return V::bit_and(V::shift_right(x, 8 * k), V::set(0xff));
  }
  HYBRID_INLINE static Int nibbles(Int x, int high) {
    return V::bit_and(high ? V::shift_right(x, 4) : x, V::set(0x0f0f0f0f));
  }
  /// The half float in 16-bit word k of each lane.
  HYBRID_INLINE static Float half(Int x, int k) {
    return V::half_to_float(k ? V::shift_right(x, 16) : x);
  }

  const std::byte* base;
};

template <class F, int... kGroup>
HYBRID_INLINE void for_group_sequence(int first, int n, const F& f,
                                      std::integer_sequence<int, kGroup...>) {
  static_cast<void>(((first + kGroup < n && (f(first + kGroup), true)) && ...));
}

/// f(g) for the groups [kBegin, n) of a block, kPeriod of them unrolled. What is unrolled here is
/// compiled dozens of times for each type, so it decides how long a build takes.
template <int kPeriod, int kBegin, class F>
HYBRID_INLINE void for_groups(int n, const F& f) {
  if constexpr (kPeriod == kGroups) {
    for_group_sequence(kBegin, n, f, std::make_integer_sequence<int, kGroups - kBegin>{});
  } else {
    for (int g = kBegin; g < n; g += kPeriod) {
      for_group_sequence(g, n, f, std::make_integer_sequence<int, kPeriod>{});
    }
  }
}

/// 0 to 15, less an offset.
constexpr std::array<int8_t, 16> nibble_values(int offset) {
  std::array<int8_t, 16> values{};
  for (int i = 0; i < 16; ++i) values[static_cast<size_t>(i)] = static_cast<int8_t>(i - offset);
  return values;
}

/// A reader has either kOffset or minima of its own.
template <SimdLevel L, class Reader>
HYBRID_INLINE typename Lanes<L>::Float minimum_of(const Reader& reader, int s) {
  if constexpr (requires { Reader::kOffset; }) {
    return Lanes<L>::multiply(reader.scale(s), Lanes<L>::set_float(Reader::kOffset));
  } else {
    return reader.minimum(s);
  }
}

/// The types of a family.
template <DType... types>
struct TypeList {};

/// f.operator()<type>() where the type is in the list, otherwise Result{}.
template <class Result, DType... types, class F>
Result for_type(TypeList<types...>, DType type, const F& f) {
  Result result{};
  ((type == types ? static_cast<void>(result = f.template operator()<types>()) : void()), ...);
  return result;
}

}  // namespace
}  // namespace hybrid::internal
