#include "runtime/stored_node_bandwidth.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "placement/json_file.h"
#include "runtime/user_cache.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

constexpr char kFileName[] = "nodes.json";
constexpr uint64_t kNodesVersion = 1;
constexpr uint64_t kMaxNode = 4095;
constexpr double kMaxPairGbs = 1e6;

int read_node(const JsonNode& node) { return static_cast<int>(node.whole_number(0, kMaxNode)); }

StoredNodeBandwidth read_nodes_file(const fs::path& path) {
  constexpr std::string_view kKeys[] = {"version",  "cpu",           "nodes",
                                        "measured", "all_local_gbs", "pairs"};
  constexpr std::string_view kPairKeys[] = {"cpu_node", "memory_node", "gbs"};
  const JsonFile file(path.string(), "the file of the nodes' bandwidth");
  const JsonNode& root = file.root();
  root.expect_object();
  root.member("version").whole_number(kNodesVersion, kNodesVersion);
  root.expect_object(kKeys);
  StoredNodeBandwidth stored;
  stored.cpu = root.member("cpu").string();
  for (const JsonNode* node : root.member("nodes").elements()) {
    stored.nodes.push_back(read_node(*node));
  }
  stored.measured = root.member("measured").string();
  stored.bandwidth.all_local_gb_per_s = root.member("all_local_gbs").positive_number(kMaxPairGbs);
  for (const JsonNode* pair : root.member("pairs").elements()) {
    pair->expect_object(kPairKeys);
    stored.bandwidth.pairs.push_back({read_node(pair->member("cpu_node")),
                                      read_node(pair->member("memory_node")),
                                      pair->member("gbs").positive_number(kMaxPairGbs)});
  }
  return stored;
}

double two_digits(double gb_per_s) { return std::max(0.01, std::round(gb_per_s * 100) / 100); }

}  // namespace

fs::path node_bandwidth_path() { return user_cache_path(kFileName); }

Cached<StoredNodeBandwidth> find_node_bandwidth(const std::string& cpu, const NodeList& nodes) {
  const auto other = [&](const StoredNodeBandwidth& stored) {
    if (stored.cpu == cpu && stored.nodes == nodes) return std::string();
    return fmt::format("it is of another machine ({}, {}; this is {}, {})", printable(stored.cpu),
                       nodes_text(stored.nodes), printable(cpu), nodes_text(nodes));
  };
  return find_in_user_cache(kFileName, "topology --measure", read_nodes_file, other);
}

fs::path store_node_bandwidth(const StoredNodeBandwidth& stored) {
  nlohmann::ordered_json pairs = nlohmann::ordered_json::array();
  for (const NodeBandwidth::Pair& pair : stored.bandwidth.pairs) {
    pairs.push_back({{"cpu_node", pair.cpu_node},
                     {"memory_node", pair.memory_node},
                     {"gbs", two_digits(pair.gb_per_s)}});
  }
  const nlohmann::ordered_json json = {
      {"version", kNodesVersion},
      {"cpu", stored.cpu},
      {"nodes", stored.nodes},
      {"measured", stored.measured},
      {"all_local_gbs", two_digits(stored.bandwidth.all_local_gb_per_s)},
      {"pairs", pairs}};
  return store_in_user_cache(kFileName, json);
}

}  // namespace hybrid
