#pragma once
// One metadata value of a GGUF: its type, then the value; arrays carry their element type and
// count.

#include <string_view>

#include "tensor/byte_reader.h"
#include "tensor/gguf_metadata.h"

namespace hybrid {

/// Reads type and value; the key stands in errors. Throws Error for an unknown type, a bool other
/// than 0 and 1, a length or count that exceeds the bytes left, and arrays nested more than 4 deep.
GgufValue read_gguf_value(ByteReader& in, std::string_view key);

}  // namespace hybrid
