#pragma once
// The tables that the non-linear formats refer to. They are facts of the formats: a value in a file
// is an index into them.
//
// A grid entry is a little-endian word whose byte i is element i (of 8 for the 64-bit grids, of 4
// for the 32-bit ones). IQ1's bytes are signed (-1, 0, 1); the others are magnitudes and get their
// signs from the block.

#include <array>
#include <bit>
#include <cstdint>

namespace hybrid {

inline constexpr std::array<int8_t, 16> kIq4NlValues = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

/// The FP4 (e2m1) values, doubled.
inline constexpr std::array<int8_t, 16> kMxfp4Values = {0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

extern const std::array<uint64_t, 256> kIq2XxsGrid;  // bytes of {8, 25, 43}
extern const std::array<uint64_t, 512> kIq2XsGrid;   // bytes of {8, 25, 43}
extern const std::array<uint64_t, 1024> kIq2SGrid;   // bytes of {8, 25, 43}
extern const std::array<uint64_t, 2048> kIq1Grid;    // bytes of {-1, 0, 1}; IQ1_S and IQ1_M
extern const std::array<uint32_t, 256> kIq3XxsGrid;  // bytes of {4, 12, 20, 28, 36, 44, 52, 62}
extern const std::array<uint32_t, 512> kIq3SGrid;    // bytes of {1, 3, 5, ..., 15}

/// The eight signs of a run from the seven that are stored: their number is always even.
constexpr uint8_t even_signs(uint32_t seven_bits) {
  return static_cast<uint8_t>(seven_bits | ((std::popcount(seven_bits) & 1u) << 7));
}

}  // namespace hybrid
