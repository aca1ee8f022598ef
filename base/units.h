#pragma once
// Sizes for people: bytes in KiB / MiB / GiB (powers of 1024), as everywhere in the project.

#include <cstdint>
#include <string>

namespace hybrid {

/// "512 B", "3.2 MiB", "10.74 GiB".
std::string format_bytes(uint64_t n_bytes);

/// out = a * b, or false in case of overflow.
[[nodiscard]] inline bool checked_mul(uint64_t a, uint64_t b, uint64_t& out) {
  return !__builtin_mul_overflow(a, b, &out);
}

}  // namespace hybrid
