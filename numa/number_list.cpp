#include "numa/number_list.h"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace hybrid {
namespace {

constexpr int kMaxNumber = 999999;

/// Takes a number off the front; -1 where there is none.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number < 0 || number > kMaxNumber) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<std::vector<int>> parse_number_list(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with(' ')) text.remove_suffix(1);
  std::vector<int> numbers;
  if (text.empty()) return numbers;
  do {
    const int first = take_number(text);
    const int last = take(text, '-') ? take_number(text) : first;
    if (first < 0 || last < first || (!numbers.empty() && first <= numbers.back())) return {};
    for (int n = first; n <= last; ++n) numbers.push_back(n);
  } while (take(text, ','));
  return text.empty() ? std::optional(std::move(numbers)) : std::nullopt;
}

std::string number_list_text(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += "-" + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text.empty() ? "none" : text;
}

std::string nodes_text(const NodeList& nodes) {
  return (nodes.size() == 1 ? "node " : "nodes ") + number_list_text(nodes);
}

std::vector<int> common_numbers(const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

bool has_number(const std::vector<int>& numbers, int number) {
  return std::binary_search(numbers.begin(), numbers.end(), number);
}

}  // namespace hybrid
