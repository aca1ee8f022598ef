#pragma once
// How much memory of AlignedFloats the program holds: counted by this program's own operator new.

#include <cstdint>

namespace hybrid::test {

/// Bytes of all living blocks that were asked for with an alignment of their own (64 bytes or
/// more).
uint64_t aligned_bytes();

}  // namespace hybrid::test
