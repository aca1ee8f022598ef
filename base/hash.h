#pragma once
// A checksum of 64 bits at the speed of memory. It finds damage, not malice.

#include <cstddef>
#include <cstdint>
#include <span>

namespace hybrid {

/// The same on every machine and in every version: it is kept in files. Bytes that differ within
/// one word of 8 never have the same hash; other differences go unseen once in 2^64. Another seed
/// makes it another function.
uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed);

}  // namespace hybrid
