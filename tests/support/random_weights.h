#pragma once
// Random weights in the files' types, without a quantiser.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace hybrid::test {

/// n elements (a multiple of the block size) of `type`: every bit of the blocks is random but the
/// scales, which are finite and such that values lie between about 1e-3 and 10. Same seed, same
/// bytes.
std::vector<std::byte> random_weights(DType type, uint64_t n, uint32_t seed);

/// The same with a mean near zero: in the types that have minima these are the mean of what they
/// are taken from, as quantisers make them. Without that the minima alone would make up most of a
/// product, and hide the errors of the rest.
std::vector<std::byte> balanced_weights(DType type, uint64_t n, uint32_t seed);

/// n floats, normally distributed with deviation 1.
std::vector<float> random_floats(uint64_t n, uint32_t seed);

}  // namespace hybrid::test
