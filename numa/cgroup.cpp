#include "numa/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

namespace hybrid {
namespace {

/// "" where there is no such file: what is not there limits nothing.
std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Takes a positive integer and what separates it off the front of `text`; 0 where there is none.
uint64_t take_number(std::string_view& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return 0;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.empty() && text.front() != ' ' && text.front() != '\n') return 0;
  text.remove_prefix(text.empty() ? 0 : 1);
  return value;
}

}  // namespace

std::string parse_own_cgroup(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with("0::")) return std::string(line.substr(3));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return {};
}

std::string own_cgroup() { return parse_own_cgroup(text_of("/proc/self/cgroup")); }

std::optional<double> parse_cpu_max(std::string_view text) {
  const uint64_t quota_us = take_number(text);
  const uint64_t period_us = take_number(text);
  if (quota_us == 0 || period_us == 0) return std::nullopt;
  return static_cast<double>(quota_us) / static_cast<double>(period_us);
}

std::optional<double> cpu_quota(const std::filesystem::path& mount, const std::string& group) {
  std::optional<double> least;
  std::filesystem::path folder = std::filesystem::path(group).relative_path();
  for (;; folder = folder.parent_path()) {
    const auto quota = parse_cpu_max(text_of(mount / folder / "cpu.max"));
    if (quota) least = std::min(*quota, least.value_or(*quota));
    if (folder.empty()) return least;
  }
}

}  // namespace hybrid
