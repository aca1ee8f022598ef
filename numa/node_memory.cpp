#include "numa/node_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "numa/number_list.h"

namespace hybrid {
namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

uint64_t NodeMemory::kept_bytes() const { return std::max(total_bytes / 64, uint64_t{32} << 20); }

uint64_t NodeMemory::available_bytes() const {
  const uint64_t all = free_bytes + file_bytes;
  return all - std::min(all, kept_bytes());
}

NodeMemory parse_node_meminfo(int node, std::string_view text) {
  NodeMemory memory{.node = node};
  std::istringstream in{std::string(text)};
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string label, name;
    int number = 0;
    uint64_t value = 0;
    if (!(words >> label >> number >> name >> value)) continue;
    const uint64_t n_bytes = value * 1024;
    if (name == "MemTotal:") memory.total_bytes = n_bytes;
    if (name == "MemFree:") memory.free_bytes = n_bytes;
    if (name == "Active(file):" || name == "Inactive(file):") memory.file_bytes += n_bytes;
    if (name == "HugePages_Total:") memory.huge_pages_total = value;
    if (name == "HugePages_Free:") memory.huge_pages_free = value;
  }
  return memory;
}

std::vector<NodeMemory> read_node_memory(const std::filesystem::path& folder) {
  std::vector<NodeMemory> all;
  const auto nodes = parse_number_list(text_of(folder / "online"));
  for (const int node : nodes.value_or(NodeList{})) {
    all.push_back(parse_node_meminfo(node, text_of(folder / fmt::format("node{}/meminfo", node))));
  }
  return all;
}

}  // namespace hybrid
