#pragma once
// Lists of processors and nodes as the kernel writes them: "0-3,8".

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

/// Processors, by the kernel's numbers, ascending.
using CpuList = std::vector<int>;
/// Memory nodes, by the kernel's numbers, ascending; these may have gaps.
using NodeList = std::vector<int>;

/// "0-3,8" with or without a line's end; "" is an empty list. None for what is no such list, for
/// one that does not ascend, and for numbers of a million and more.
std::optional<std::vector<int>> parse_number_list(std::string_view text);

/// "0-3,8"; "none" where there are none.
std::string number_list_text(const std::vector<int>& numbers);

/// "node 3", "nodes 0-3,8"
std::string nodes_text(const NodeList& nodes);

/// What both lists have.
std::vector<int> common_numbers(const std::vector<int>& a, const std::vector<int>& b);

/// Whether the list has the number.
bool has_number(const std::vector<int>& numbers, int number);

}  // namespace hybrid
