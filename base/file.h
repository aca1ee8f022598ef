#pragma once
// Whole files as strings.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace hybrid {

/// Throws Error "PATH: cannot read WHAT: REASON", for instance of a folder. `what`: "the config
/// file". A file of more than max_bytes is an Error, too, and is not read to its end.
std::string read_file(const std::string& path, std::string_view what, size_t max_bytes = SIZE_MAX);

/// The rest of an open stream; `name` stands for the path in the error.
std::string read_stream(std::FILE* stream, const std::string& name, std::string_view what,
                        size_t max_bytes = SIZE_MAX);

}  // namespace hybrid
