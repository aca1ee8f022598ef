#pragma once
// Names of the tensor types that other programs write and this one does not read, for errors.

#include <cstdint>
#include <string_view>

namespace hybrid {

/// "IQ4_KS (ik_llama.cpp)" for 144; empty for a number that nobody uses (as far as we know).
std::string_view unsupported_type_name(uint32_t gguf_type);

}  // namespace hybrid
