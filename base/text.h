#pragma once
// Small helpers on strings that option, config and file errors share.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

/// The candidate with the smallest edit distance to `word`, or "" where none comes close (more than
/// a third of the word would have to change). Of equally near ones, one with its first letter.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

std::vector<std::string> split(std::string_view text, char separator);

/// "1 layer", "2 layers"
std::string plural(uint64_t n, const char* word);

std::string join(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace hybrid
